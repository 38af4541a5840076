import { join } from 'node:path';
import { access, constants } from 'node:fs/promises';
import { z } from 'zod';
import { throwIfAborted } from '../../model/abort.ts';
import { connectionFailure } from '../../model/connection-failure.ts';
import { ServiceUnavailableError, toTarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { StoreVolume } from '../../ports/volume.ts';
import { leftoversAt } from '../paths/leftovers.ts';
import { singleUse } from '../restore/single-use.ts';
import { prepareOllamaCapture } from './capture.ts';
import { blobFileName, requireModelStore, type Model } from './model-store.ts';
import { planOllamaRestore, type LiveBlob } from './plan.ts';
import { removeStaged, stageOllamaRestore } from './stage.ts';
import { ollamaGeneration } from './swap.ts';
import { localStore, openRemoteStore, type StoreReader } from './store-reader.ts';
import { BlobError } from './verified-bytes.ts';
import { verifyOllama } from './verify.ts';

const kind = 'ollama';
const answerTimeoutMs = 5000;

/** An Ollama of the stack, by the files of its models. */
export interface OllamaOptions {
  readonly name: string;
  readonly service: string | undefined;
  /** The directory that holds `manifests/` and `blobs/`. Nothing outside these two is ever read. */
  readonly path: string;
  /** The same directory where no path leads to it: read through what it lies behind, and `path` is not used. */
  readonly remote?: StoreVolume | undefined;
  /** The server, such as `http://127.0.0.1:11434`; asked for its version only. */
  readonly url: string | undefined;
  /**
   * `all` stores models whole. `list` stores manifests, `models.json`, and whole only the models created locally,
   * which nobody could pull again. `none` keeps names and digests in the manifest's facts.
   */
  readonly models: 'none' | 'list' | 'all';
  /** Hashes a live blob where `path` holds none but its size; the bytes in `path` by default. */
  readonly liveBlob?: LiveBlob;
}

/**
 * An Ollama model store on disk (DESIGN.md section 10). Models are immutable files named by their hash, so the store
 * is captured from disk without the server and every blob is hashed on every way in and out.
 */
export function createOllamaComponent(options: OllamaOptions): Component {
  const { name, service, path: root, url } = options;
  const place = {
    name,
    kind,
    service,
    root,
    ...(options.liveBlob === undefined ? {} : { liveBlob: options.liveBlob }),
  };
  return {
    name,
    kind,
    service,
    probe: (ctx) => probe(options, ctx),
    async ready(ctx) {
      if (url !== undefined) await serverVersion(url, ctx.signal);
      else if (options.remote === undefined)
        await access(root, constants.R_OK | constants.X_OK).catch((error: unknown) => {
          throw toTarsError(error, `Cannot read the model directory ${root}`);
        });
    },
    async prepare(ctx) {
      const serverVersion = await versionIfAnswering(url, ctx.signal);
      const store = await openStore(options, ctx);
      return prepareOllamaCapture({ name, store, mode: options.models, serverVersion });
    },
    planRestore: async (from, restoreOptions, ctx, source) =>
      singleUse(await planOllamaRestore(place, from, restoreOptions, ctx, source), (...stage) =>
        stageOllamaRestore(place, ...stage),
      ),
    leftovers: () => leftoversAt([root, join(root, 'blobs'), join(root, 'manifests')]),
    removeStaged: (restoreId) => removeStaged(root, restoreId),
    generation: ollamaGeneration,
    async verify(from, ctx) {
      const { remote } = options;
      await using store =
        remote === undefined ? localStore(root) : await openRemoteStore(remote, ctx, { lenient: true });
      return await verifyOllama(store, from, ctx);
    },
  };
}

/** @throws ConfigurationError when there is no model store */
async function openStore({ path, remote }: OllamaOptions, ctx: OperationContext): Promise<StoreReader> {
  if (remote !== undefined) return openRemoteStore(remote, ctx);
  await requireModelStore(path);
  return localStore(path);
}

async function probe(options: OllamaOptions, ctx: OperationContext): Promise<ComponentProbe> {
  await using store = await openStore(options, ctx);
  const { models, broken } = await store.models(ctx.signal);
  const warnings = broken.map(({ name, reason }) => `${name} will not be captured: ${reason}`);
  for (const model of models) {
    const problem = await blobProblem(store, model, ctx.signal);
    if (problem !== undefined) warnings.push(`${model.name} will not be captured completely: ${problem}`);
  }
  if (options.models !== 'all') {
    const pulled = models.filter((model) => options.models === 'none' || model.origin === 'pulled').length;
    if (pulled > 0)
      warnings.push(`Listed only, to be pulled again: ${pulled} of ${counted(models.length, 'model')}`);
  }
  const captured = models.filter(
    (model) => options.models === 'all' || (options.models === 'list' && model.origin === 'local'),
  );
  const sizes = new Map(captured.flatMap((m) => m.blobs.map((blob) => [blob.sha256, blob.sizeBytes])));
  const sizeBytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  return {
    serverVersion: await versionIfAnswering(options.url, ctx.signal),
    sizeBytes,
    summary: `${counted(models.length, 'model')}, ${captured.length} stored completely`,
    warnings,
  };
}

async function blobProblem(
  store: StoreReader,
  model: Model,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const { sha256 } of model.blobs) {
    try {
      const blob = await store.blob(sha256, signal);
      if (blob === undefined) return `its blob ${blobFileName(sha256)} is missing`;
      await blob.close();
    } catch (error) {
      if (error instanceof BlobError) return error.message;
      throw error;
    }
  }
  return undefined;
}

/** @throws ServiceUnavailableError when the server does not answer `GET /api/version` (Ollama's `docs/api.md`) */
async function serverVersion(url: string, signal: AbortSignal): Promise<string> {
  try {
    const response = await fetch(new URL('/api/version', url), {
      signal: AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]),
    });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return z.object({ version: z.string() }).parse(await response.json()).version;
  } catch (cause) {
    throwIfAborted(signal, cause);
    const detail = connectionFailure(cause);
    throw new ServiceUnavailableError(`Ollama does not answer at ${new URL(url).host}: ${detail}`, {
      hint: 'Start it, or correct url in tars.yaml.',
      cause,
    });
  }
}

/** The store is captured from disk: a server that is down costs only its version. */
async function versionIfAnswering(url: string | undefined, signal: AbortSignal): Promise<string | undefined> {
  if (url === undefined) return undefined;
  try {
    return await serverVersion(url, signal);
  } catch (error) {
    if (error instanceof ServiceUnavailableError) return undefined;
    throw error;
  }
}
