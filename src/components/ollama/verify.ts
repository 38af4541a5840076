import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import { parseOllamaFacts, type StoredModel } from './facts.ts';
import { blobFileName, isBehind } from './model-store.ts';
import type { StoreReader } from './store-reader.ts';
import { BlobError, sha256Of } from './verified-bytes.ts';

/** Compares every manifest's bytes and hashes every blob of the captured models. */
export async function verifyOllama(
  store: StoreReader,
  from: ComponentManifest,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const facts = parseOllamaFacts(from.facts, from.name);
  const findings: Finding[] = facts.incomplete.map(({ name, reason }) => ({
    severity: 'warning',
    subject: from.name,
    code: 'model-not-captured',
    message: `${name} is not in the snapshot: ${reason}`,
  }));
  const report = (model: StoredModel, code: string, message: string): void => {
    const severity = model.stored === 'model' ? 'error' : 'warning';
    const advice = model.stored === 'model' ? '' : `; run ollama pull ${model.name}`;
    findings.push({ severity, subject: from.name, code, message: `${message}${advice}` });
  };
  const { models, broken } = await store.models(ctx.signal);
  const digests = new Map(models.map(({ path, digest }) => [path, digest]));
  const blobs = new Map<string, string | undefined>();
  for (const model of facts.models) {
    const digest = digests.get(model.path);
    const damage = broken.find((entry) => isBehind(model.path, entry));
    if (damage !== undefined) {
      report(model, 'model-differs', `${model.name} differs from the captured model: ${damage.reason}`);
      continue;
    }
    if (digest === undefined) {
      report(model, 'model-missing', `${model.name} is missing`);
      continue;
    }
    if (digest !== model.digest)
      report(model, 'model-differs', `${model.name} has the digest ${digest} instead of ${model.digest}`);
    for (const { sha256 } of model.blobs) {
      if (!blobs.has(sha256)) blobs.set(sha256, await blobProblem(store, sha256, ctx));
      const problem = blobs.get(sha256);
      if (problem !== undefined) report(model, 'blob-damaged', `${model.name}: ${problem}`);
    }
  }
  return findings;
}

async function blobProblem(
  store: StoreReader,
  sha256: string,
  ctx: OperationContext,
): Promise<string | undefined> {
  const file = blobFileName(sha256);
  const blob = await store.blob(sha256, ctx.signal).catch((error: unknown) => {
    if (error instanceof BlobError) return error;
    throw error;
  });
  if (blob instanceof BlobError) return blob.message;
  if (blob === undefined) return `its blob ${file} is missing`;
  const task = ctx.progress.start(`verify ${file.slice(0, 19)}`, blob.identity.sizeBytes);
  try {
    const actual = await sha256Of(blob.bytes(ctx.signal), task.advance.bind(task));
    task.finish(actual === sha256 ? 'ok' : 'failed');
    return actual === sha256 ? undefined : `its blob ${file} is damaged: its SHA-256 is ${actual}`;
  } catch (error) {
    task.finish('failed');
    if (error instanceof BlobError) return error.message;
    throw error;
  } finally {
    await blob.close();
  }
}
