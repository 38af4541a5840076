import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { InterruptedError, ServiceUnavailableError, toTarsError } from '../../model/errors.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { prepareOllamaCapture } from './capture.ts';
import { blobFileName, readModels, requireModelStore, type Model } from './model-store.ts';
import { statIfThere } from './place.ts';
import { planOllamaRestore, type OllamaPlanDetails } from './plan.ts';
import { ollamaGeneration, removeStaged, stageOllamaRestore } from './stage.ts';
import { verifyOllama } from './verify.ts';

const kind = 'ollama';
const answerTimeoutMs = 5000;

export interface OllamaOptions {
  readonly name: string;
  readonly service: string | undefined;
  /** The directory that holds `manifests/` and `blobs/`. Nothing outside these two is ever read. */
  readonly path: string;
  /** The server, such as `http://127.0.0.1:11434`; asked for its version only. */
  readonly url: string | undefined;
  /**
   * `all` stores models whole. `list` stores manifests, `models.json`, and whole only the models created locally,
   * which nobody could pull again. `none` keeps names and digests in the manifest's facts.
   */
  readonly models: 'none' | 'list' | 'all';
}

/**
 * An Ollama model store on disk (DESIGN.md section 10). Models are immutable files named by their hash, so the store
 * is captured from disk without the server and every blob is hashed on every way in and out.
 */
export function createOllamaComponent(options: OllamaOptions): Component {
  const { name, service, path: root, url } = options;
  const place = { name, kind, service, root };
  return {
    name,
    kind,
    service,
    probe: (ctx) => probe(options, ctx),
    async ready(ctx) {
      if (url !== undefined) await serverVersion(url, ctx.signal);
      else
        await access(root, constants.R_OK | constants.X_OK).catch((error: unknown) => {
          throw toTarsError(error, `Cannot read the model directory ${root}`);
        });
    },
    async prepare(ctx) {
      await requireModelStore(root);
      const version = await versionIfAnswering(url, ctx.signal);
      return prepareOllamaCapture({ name, root, mode: options.models, serverVersion: version });
    },
    planRestore: (from, restoreOptions, ctx) => planOllamaRestore(place, from, restoreOptions, ctx),
    stage: (plan, source, ctx) =>
      stageOllamaRestore(place, plan as RestorePlan<OllamaPlanDetails>, source, ctx),
    removeStaged: (restoreId) => removeStaged(root, restoreId),
    generation: ollamaGeneration,
    verify: (from, ctx) => verifyOllama(root, from, ctx),
  };
}

async function probe(options: OllamaOptions, ctx: OperationContext): Promise<ComponentProbe> {
  await requireModelStore(options.path);
  const { models, broken } = await readModels(options.path, ctx.signal);
  const warnings = broken.map(({ name, reason }) => `${name} will not be captured: ${reason}`);
  for (const model of models) {
    const missing = await missingBlob(options.path, model);
    if (missing !== undefined)
      warnings.push(`${model.name} will not be captured whole: its blob ${missing} is missing`);
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
    summary: `${counted(models.length, 'model')}, ${captured.length} stored whole`,
    warnings,
  };
}

async function missingBlob(root: string, model: Model): Promise<string | undefined> {
  for (const { sha256 } of model.blobs) {
    const file = blobFileName(sha256);
    if ((await statIfThere(join(root, 'blobs', file))) === undefined) return file;
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
    if (signal.aborted) throw new InterruptedError('Interrupted', { cause });
    const detail = cause instanceof Error ? cause.message : String(cause);
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
