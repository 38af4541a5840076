import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { CleanupStack } from '../../model/cleanup-stack.ts';
import { ConfigurationError, hasErrno, toTarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, Bytes, FileIdentity } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { OpenVolume, StoreVolume, VolumeListing } from '../../ports/volume.ts';
import { attributesOf, identityOf } from '../paths/file-bytes.ts';
import {
  blobFileName,
  isManifestPath,
  listing,
  manifestDepth,
  modelName,
  noManifest,
  parseManifest,
  readModels,
  strayFile,
  type BrokenModel,
  type Model,
  type ModelListing,
} from './model-store.ts';
import { handleBytes, unreadableBlob } from './verified-bytes.ts';

/** A blob of the store, found. */
export interface StoredBlob {
  readonly attributes: ArtifactAttributes;
  readonly identity: FileIdentity;
  bytes(signal: AbortSignal): Bytes;
  close(): Promise<void>;
}

/** A model store, by path or behind an Engine. */
export interface StoreReader extends AsyncDisposable {
  /** The state of the store at this moment. */
  models(signal: AbortSignal): Promise<ModelListing>;
  /** Undefined when it is not there. */
  blob(sha256: string, signal: AbortSignal): Promise<StoredBlob | undefined>;
  /** For a manifest that is gone by now: the store's owner, readable by all as Ollama writes its files. */
  manifestAttributes(path: string): Promise<ArtifactAttributes>;
}

/** The store in a directory of this machine; empty when there is none. */
export function localStore(root: string): StoreReader {
  return {
    models: (signal) => readModels(root, signal),
    blob: (sha256) => localBlob(root, sha256),
    async manifestAttributes(path) {
      const file = join(root, 'manifests', path);
      const stats = await lstat(file, { bigint: true }).catch((error: unknown) => {
        if (hasErrno(error, 'ENOENT')) return undefined;
        throw toTarsError(error, `Cannot read the manifest of ${modelName(path)}`);
      });
      if (stats !== undefined) return attributesOf(stats);
      return { ...attributesOf(await lstat(root, { bigint: true })), mode: 0o644 };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function localBlob(root: string, sha256: string): Promise<StoredBlob | undefined> {
  const file = blobFileName(sha256);
  const path = join(root, 'blobs', file);
  try {
    // Opening a pipe would wait for its other end.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) {
      await handle.close();
      throw new Error('it is not a regular file');
    }
    return {
      attributes: attributesOf(stats),
      identity: identityOf(stats),
      bytes: (signal) => handleBytes(handle, file, signal),
      close: () => handle.close(),
    };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw unreadableBlob(file, error);
  }
}

/**
 * Reads blobs one by one, so that no copy of the store is made.
 * @throws ConfigurationError when it is no model store, unless `lenient`
 */
export async function openRemoteStore(
  volume: StoreVolume,
  ctx: OperationContext,
  { lenient = false } = {},
): Promise<StoreReader> {
  await using stack = new CleanupStack();
  const store = stack.use(await volume.open('read', ctx));
  let listed = await store.list(ctx.signal);
  const isStore = ['manifests', 'blobs'].some((name) => listed?.entries.get(name)?.type === 'directory');
  if (!lenient && !isStore) {
    throw new ConfigurationError(
      `${volume.label} is not an Ollama model directory: it has neither manifests nor blobs`,
      { hint: 'Check that the volume is mounted where Ollama keeps its models (OLLAMA_MODELS).' },
    );
  }
  const owned = stack.move();
  return {
    async models(signal) {
      listed = await store.list(signal);
      return readManifests(store, listed, signal);
    },
    blob: (sha256) => Promise.resolve(distantBlob(store, listed, sha256)),
    manifestAttributes(path) {
      const entry = listed?.entries.get(`manifests/${path}`);
      const fallback = { mode: 0, uid: 0, gid: 0, mtimeNs: 0n, ...listed?.root.attributes };
      return Promise.resolve(entry?.attributes ?? { ...fallback, mode: 0o644 });
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

async function readManifests(
  store: OpenVolume,
  listed: VolumeListing | undefined,
  signal: AbortSignal,
): Promise<ModelListing> {
  const parsed: (Model | BrokenModel)[] = [];
  for (const { path, type } of listed?.entries.values() ?? []) {
    const name = path === 'manifests' ? '' : /^manifests\/(.*)$/s.exec(path)?.[1];
    if (name === undefined || /(^|\/)\./.test(name)) continue;
    if (!isManifestPath(name)) {
      if (type !== 'directory' && name.split('/').length < manifestDepth) parsed.push(strayFile(name));
      continue;
    }
    if (type !== 'file') {
      parsed.push(noManifest(name, type === 'directory' ? 'a directory' : 'no regular file'));
      continue;
    }
    const file = await store.read(path, signal);
    if (file === undefined) continue;
    const pieces: Uint8Array[] = [];
    for await (const piece of file.body) pieces.push(piece);
    parsed.push(parseManifest(name, Buffer.concat(pieces)));
  }
  return listing(parsed.sort((a, b) => (a.path < b.path ? -1 : 1)));
}

function distantBlob(
  store: OpenVolume,
  listing: VolumeListing | undefined,
  sha256: string,
): StoredBlob | undefined {
  const path = `blobs/${blobFileName(sha256)}`;
  const entry = listing?.entries.get(path);
  if (entry?.type !== 'file') return undefined;
  return {
    attributes: entry.attributes,
    // The same blob always has the same name, whatever its times say.
    identity: listing?.fineTimes === true ? entry.identity : namedIdentity(sha256, entry.identity.sizeBytes),
    async *bytes(signal) {
      const file = await store.read(path, signal);
      if (file === undefined) throw toTarsError(new Error('it was removed'), `Cannot read ${path}`);
      yield* file.body;
    },
    close: () => Promise.resolve(),
  };
}

const namedIdentity = (sha256: string, sizeBytes: number): FileIdentity => ({
  ...{ sizeBytes, mtimeNs: 0n, ctimeNs: 0n },
  inode: BigInt(`0x${sha256.slice(0, 15)}`),
});
