import { dirname } from 'node:path';
import { TarsError } from '../../model/errors.ts';
import type { ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { IncompleteList } from '../paths/incomplete.ts';
import type { OllamaFacts, StoredModel } from './facts.ts';
import { blobFileName, type Model, type ModelBlob, type ModelListing } from './model-store.ts';
import type { StoredBlob, StoreReader } from './store-reader.ts';
import { BlobError, verifiedBytes } from './verified-bytes.ts';

/** Blobs held open from the mark on; beyond that they are opened by name when their turn comes. */
const heldBlobsMax = 512;

/** Which model store is captured, and how much of it. */
export interface CaptureOptions {
  readonly name: string;
  readonly store: StoreReader;
  readonly mode: 'none' | 'list' | 'all';
  readonly serverVersion: string | undefined;
}

/** Why a blob cannot be stored; ends the capture of the models that need it. */
interface BlobProblem {
  readonly reason: string;
  /** It is there, damaged or not to be read: a backup that says nothing of it would be believed. */
  readonly lost: boolean;
}

/**
 * The capture of a model store. The mark reads all manifests and opens the blobs they name: what Ollama removes
 * afterwards (it deletes a model's old layers when the model is pulled anew) is still captured as it was.
 */
export function prepareOllamaCapture(options: CaptureOptions): PreparedCapture {
  const held = new Map<string, StoredBlob>();
  let marked: ModelListing | undefined;
  const close = async (): Promise<void> => {
    const handles = [...held.values()];
    held.clear();
    await Promise.all(handles.map((handle) => handle.close()));
    await options.store[Symbol.asyncDispose]();
  };
  return {
    pointInTime: 'cut',
    async mark(signal) {
      marked = await options.store.models(signal);
      const blobs = new Set(
        marked.models
          .filter((m) => storesBlobs(m, options.mode))
          .flatMap((m) => m.blobs.map((b) => b.sha256)),
      );
      for (const sha256 of [...blobs].slice(0, heldBlobsMax)) {
        const handle = await options.store.blob(sha256, signal).catch(orUnreadable);
        if (handle !== undefined && !(handle instanceof BlobError)) held.set(sha256, handle);
      }
    },
    settle: () => Promise.resolve(),
    async capture(sink, ctx) {
      if (marked === undefined)
        throw new TarsError('internal', `Cannot capture ${options.name}: it was not marked`);
      try {
        return await captureModels(options, marked, held, sink, ctx);
      } finally {
        await close();
      }
    },
    [Symbol.asyncDispose]: close,
  };
}

const storesBlobs = (model: Model, mode: CaptureOptions['mode']): boolean =>
  mode === 'all' || (mode === 'list' && model.origin === 'local');

async function captureModels(
  options: CaptureOptions,
  { models, broken }: ModelListing,
  held: ReadonlyMap<string, StoredBlob>,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CaptureReport> {
  const stored: StoredModel[] = [];
  const incomplete: { name: string; reason: string; lost: boolean }[] = broken.map(
    ({ name, reason, unread = false }) => ({ name, reason, lost: unread }),
  );
  const blobs = new Map<string, BlobProblem | undefined>();
  for (const model of models) {
    const withBlobs = storesBlobs(model, options.mode);
    const problem = withBlobs ? await captureBlobs(options, model, blobs, held, sink, ctx) : undefined;
    if (problem !== undefined) {
      incomplete.push({ name: model.name, ...problem });
      continue;
    }
    if (options.mode !== 'none') await captureManifest(options, model, sink, ctx.signal);
    const { name, path, digest, origin } = model;
    const what = withBlobs ? 'model' : options.mode === 'list' ? 'manifest' : 'none';
    stored.push({ name, path, digest, origin, stored: what, blobs: [...model.blobs] });
  }
  for (const { name, reason } of incomplete) ctx.log.warn(`Ollama: ${name} is not captured: ${reason}`);
  const lost = new IncompleteList();
  for (const { name, reason } of incomplete.filter((entry) => entry.lost)) lost.add(name, reason);
  if (lost.report !== undefined && stored.length === 0) {
    throw new TarsError(
      'capture-failed',
      `Cannot capture ${lost.report.named.map(({ path, reason }) => `${path}: ${reason}`).join('; ')}`,
      {
        hint: 'Correct the owner and mode of files that cannot be read, and check the disk. Remove damaged models with "ollama rm", then pull or create them again.',
      },
    );
  }
  const facts: OllamaFacts = {
    mode: options.mode,
    models: stored,
    incomplete: incomplete.map(({ name, reason }) => ({ name, reason })),
  };
  if (options.mode === 'list') {
    for (const names of copies(stored)) ctx.log.warn(copyWarning(names));
    await captureList(options.name, stored, sink, ctx);
  }
  return {
    ...{ serverVersion: options.serverVersion, method: 'physical', writesBlockedMs: 0, facts },
    ...(lost.report === undefined ? {} : { incomplete: lost.report }),
  };
}

/** Names of one model, of which blobs are not stored: `ollama cp` gives a second one that no registry knows. */
function copies(models: readonly StoredModel[]): readonly (readonly string[])[] {
  const listed = models.filter((model) => model.stored === 'manifest');
  return [...Map.groupBy(listed, ({ digest }) => digest).values()]
    .filter((group) => new Set(group.map(({ path }) => dirname(path))).size > 1)
    .map((group) => group.map(({ name }) => name).sort());
}

const copyWarning = (names: readonly string[]): string =>
  `Ollama has one model under the names ${names.join(' and ')}, and a copy cannot be pulled under its own name. Set models: all to keep it, or copy it again after a restore: ollama cp ${names.join(' ')}`;

/** Stores the blobs of one model that are not stored yet; returns what keeps the model from being captured. */
async function captureBlobs(
  options: CaptureOptions,
  model: Model,
  done: Map<string, BlobProblem | undefined>,
  held: ReadonlyMap<string, StoredBlob>,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<BlobProblem | undefined> {
  for (const blob of model.blobs) {
    if (!done.has(blob.sha256)) {
      const handle =
        held.get(blob.sha256) ?? (await options.store.blob(blob.sha256, ctx.signal).catch(orUnreadable));
      if (handle instanceof BlobError) {
        done.set(blob.sha256, { reason: handle.message, lost: true });
        return done.get(blob.sha256);
      }
      try {
        done.set(blob.sha256, await captureBlob(options.name, blob, handle, sink, ctx));
      } finally {
        if (!held.has(blob.sha256)) await handle?.close();
      }
    }
    const problem = done.get(blob.sha256);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

async function captureBlob(
  component: string,
  { sha256 }: ModelBlob,
  blob: StoredBlob | undefined,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<BlobProblem | undefined> {
  const file = blobFileName(sha256);
  if (blob === undefined) return { reason: `its blob ${file} is missing`, lost: false };
  const { identity, attributes } = blob;
  const path = `${component}/blobs/${file}`;
  const reused = await sink.reuse(path, identity);
  if (reused?.sha256 === sha256) return undefined;
  const task = ctx.progress.start(`${component} ${file.slice(0, 19)}`, identity.sizeBytes);
  const body = verifiedBytes(blob.bytes(ctx.signal), sha256, `its blob ${file}`);
  try {
    await sink.write(path, counted(body, task.advance.bind(task)), {
      attributes,
      chunking: 'large',
      sizeBytes: identity.sizeBytes,
      identity,
      signal: ctx.signal,
    });
    task.finish('ok');
    return undefined;
  } catch (error) {
    task.finish('failed');
    const mismatch = mismatchIn(error);
    if (mismatch === undefined) throw error;
    return { reason: mismatch.message, lost: true };
  }
}

/** One blob that cannot be opened costs the models that need it, and no other. */
function orUnreadable(error: unknown): BlobError {
  if (error instanceof BlobError) return error;
  throw error;
}

/** A sink may wrap what the body threw. */
function mismatchIn(error: unknown): BlobError | undefined {
  if (error instanceof BlobError) return error;
  return error instanceof Error && error.cause !== undefined ? mismatchIn(error.cause) : undefined;
}

async function* counted(body: Bytes, advance: (bytes: number) => void): Bytes {
  for await (const chunk of body) {
    // Before it is handed on: from then on it is the sink's.
    advance(chunk.byteLength);
    yield chunk;
  }
}

async function* once(bytes: Uint8Array): Bytes {
  // A copy: what is yielded is the sink's, and these bytes may be used again.
  yield await Promise.resolve(new Uint8Array(bytes));
}

async function captureManifest(
  { name, store }: CaptureOptions,
  model: Model,
  sink: ArtifactSink,
  signal: AbortSignal,
): Promise<void> {
  await sink.write(`${name}/manifests/${model.path}`, once(model.manifest), {
    attributes: await store.manifestAttributes(model.path),
    chunking: 'small',
    sizeBytes: model.manifest.byteLength,
    signal,
  });
}

/** `models.json`: the list for people and scripts that want to pull everything again. */
async function captureList(
  component: string,
  models: readonly StoredModel[],
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<void> {
  const list = models.map(({ name, digest, origin, blobs }) => ({
    name,
    digest: `sha256:${digest}`,
    sizeBytes: blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0),
    origin,
  }));
  const bytes = new TextEncoder().encode(`${JSON.stringify({ models: list }, null, 2)}\n`);
  await sink.write(`${component}/models.json`, once(bytes), {
    attributes: {
      mode: 0o644,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      mtimeNs: BigInt(ctx.clock.now().getTime()) * 1_000_000n,
    },
    chunking: 'small',
    sizeBytes: bytes.byteLength,
    signal: ctx.signal,
  });
}
