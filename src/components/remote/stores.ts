import { chmod, mkdir, open as openFile, truncate, writeFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { throwIfAborted } from '../../model/abort.ts';
import { ServiceUnavailableError, TarsError } from '../../model/errors.ts';
import type { Component } from '../../ports/component.ts';
import type { RemoteDirectory } from '../../ports/store-place.ts';
import type { OpenVolume, StoreVolume } from '../../ports/volume.ts';
import { createChromaComponent, type ChromaOptions } from '../chroma/index.ts';
import { createMirroredComponent, type LiveFiles, type MirrorOptions } from './mirrored.ts';
import { createOllamaComponent, type OllamaOptions } from '../ollama/index.ts';
import type { LiveBlob } from '../ollama/plan.ts';
import { sha256Of } from '../ollama/verified-bytes.ts';
import { createRedisComponent } from '../redis/index.ts';
import type { RedisOptions } from '../redis/connection/options.ts';

/** Long enough to see which version wrote an RDB. */
const rdbHeadBytes = 512;

/** Chroma: captured frozen, restored whole. */
export function createRemoteChroma(
  options: Omit<ChromaOptions, 'path' | 'remote'>,
  remote: RemoteDirectory,
): Component {
  const base = createChromaComponent({ ...options, path: undefined, remote });
  return createMirroredComponent({
    ...{ base, volume: remote.volume, scratchDir: options.scratchDir },
    at: (path) => createChromaComponent({ ...options, path, keepDirectory: true }),
    // Its tables say which version wrote them. A copy torn by a writer is reported as unreadable, no more.
    async fill(directory, live, { entries }, { signal }) {
      const name = 'chroma.sqlite3';
      if (!entries.has(name)) return;
      const file = await live.read(name, signal);
      if (file === undefined) return;
      const target = createWriteStream(join(directory, name), { mode: 0o600 });
      await pipeline(file.body, target, { signal }).catch((error: unknown) => {
        throwIfAborted(signal);
        if (!(error instanceof TarsError)) throw error;
      });
    },
    async removeElsewhere(restoreId, ctx) {
      try {
        await base.removeStaged(restoreId, ctx);
      } catch (error) {
        if (!(error instanceof ServiceUnavailableError)) throw error;
        ctx.log.debug(
          `Staged collections, if there are any, could not be removed over HTTP: ${error.message}`,
        );
      }
    },
  });
}

/** Redis: captured over the wire, restored by files. */
export function createRemoteRedis(options: Omit<RedisOptions, 'dataDir'>, volume: StoreVolume): Component {
  return createMirroredComponent({
    base: createRedisComponent({ ...options, dataDir: undefined }),
    at: (dataDir) => createRedisComponent({ ...options, dataDir }),
    ...{ volume, scratchDir: options.scratchDir },
    async fill(directory, live, { entries }, { signal }) {
      for (const { path, type, attributes } of entries.values()) {
        if (type !== 'file' || !/^[^/]+\.rdb$/.test(path)) continue;
        await writeFile(join(directory, path), await headOf(live, path, signal), { mode: 0o600 });
        await chmod(join(directory, path), (attributes.mode & 0o777) | 0o600);
      }
    },
  });
}

async function headOf(live: OpenVolume, path: string, signal: AbortSignal): Promise<Uint8Array> {
  const file = await live.read(path, signal);
  for await (const chunk of file?.body ?? []) return chunk.subarray(0, rdbHeadBytes);
  return new Uint8Array();
}

/** Ollama: blobs are read and sent one by one. */
export function createRemoteOllama(
  options: Omit<OllamaOptions, 'path' | 'remote'> & Pick<MirrorOptions, 'scratchDir'>,
  volume: StoreVolume,
): Component {
  return createMirroredComponent({
    base: createOllamaComponent({ ...options, path: '', remote: volume }),
    at: (path, live) => createOllamaComponent({ ...options, path, liveBlob: blobOf(live) }),
    ...{ volume, scratchDir: options.scratchDir },
    // Manifests as they are; of blobs only names and sizes.
    async fill(directory, live, { entries }, { signal }) {
      for (const { path, type, identity } of entries.values()) {
        const [part] = path.split('/');
        const target = join(directory, path);
        if (part !== 'manifests' && part !== 'blobs') continue;
        if (type === 'directory') await mkdir(target, { recursive: true });
        if (type !== 'file') continue;
        await mkdir(dirname(target), { recursive: true });
        const file = part === 'manifests' ? await live.read(path, signal) : undefined;
        if (file === undefined) {
          await (await openFile(target, 'w', 0o600)).close();
          await truncate(target, identity.sizeBytes);
        } else await pipeline(file.body, createWriteStream(target), { signal });
      }
    },
  });
}

const blobOf =
  (live: LiveFiles): LiveBlob =>
  async (file, signal, onBytes) => {
    const blob = await live.read(`blobs/${file}`, signal);
    return blob === undefined ? '' : sha256Of(blob.body, onBytes);
  };
