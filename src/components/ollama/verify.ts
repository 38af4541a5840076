import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import { fileBytes } from '../files/file-bytes.ts';
import { parseOllamaFacts, type StoredModel } from './facts.ts';
import { blobFileName } from './model-store.ts';
import { statIfThere } from './place.ts';
import { sha256Of } from './verified-bytes.ts';

/** Compares every manifest's bytes and hashes every blob of the captured models. */
export async function verifyOllama(
  root: string,
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
  const blobs = new Map<string, string | undefined>();
  for (const model of facts.models) {
    const digest = await manifestDigest(join(root, 'manifests', model.path), ctx.signal);
    if (digest === undefined) {
      report(model, 'model-missing', `${model.name} is missing`);
      continue;
    }
    if (digest !== model.digest)
      report(model, 'model-differs', `${model.name} has the digest ${digest} instead of ${model.digest}`);
    for (const { sha256 } of model.blobs) {
      if (!blobs.has(sha256)) blobs.set(sha256, await blobProblem(root, sha256, ctx));
      const problem = blobs.get(sha256);
      if (problem !== undefined) report(model, 'blob-damaged', `${model.name}: ${problem}`);
    }
  }
  return findings;
}

async function manifestDigest(path: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const bytes = await readFile(path, { signal });
    return createHash('sha256').update(bytes).digest('hex');
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return undefined;
    throw toTarsError(error, `Cannot read ${path}`);
  }
}

async function blobProblem(root: string, sha256: string, ctx: OperationContext): Promise<string | undefined> {
  const file = blobFileName(sha256);
  const path = join(root, 'blobs', file);
  const stats = await statIfThere(path);
  if (stats === undefined) return `its blob ${file} is missing`;
  const task = ctx.progress.start(`verify ${file.slice(0, 19)}`, Number(stats.size));
  const actual = await sha256Of(fileBytes(path, ctx.signal), task.advance.bind(task));
  task.finish(actual === sha256 ? 'ok' : 'failed');
  return actual === sha256 ? undefined : `its blob ${file} is damaged: its SHA-256 is ${actual}`;
}
