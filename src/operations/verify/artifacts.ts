import { createHash } from 'node:crypto';
import { CorruptionError, InterruptedError, TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ManifestArtifact } from '../../model/manifest.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';

/**
 * Reads every artifact to its last byte and compares size and SHA-256 with the manifest. Damage becomes
 * findings, so that one report names all of it.
 */
export async function verifyArtifacts(
  source: ArtifactSource,
  artifacts: AsyncIterable<ManifestArtifact>,
  totalBytes: number,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const task = ctx.progress.start('verifying the snapshot', totalBytes);
  const findings: Finding[] = [];
  for await (const artifact of artifacts) {
    const finding = await verifyArtifact(source, artifact, (bytes) => task.advance(bytes), ctx);
    if (finding !== undefined) findings.push(finding);
  }
  task.finish(findings.length === 0 ? 'ok' : 'failed');
  return findings;
}

async function verifyArtifact(
  source: ArtifactSource,
  artifact: ManifestArtifact,
  advance: (bytes: number) => void,
  ctx: OperationContext,
): Promise<Finding | undefined> {
  const damaged = (code: string, message: string): Finding => ({
    severity: 'error',
    subject: artifact.path,
    code,
    message,
  });
  const hash = createHash('sha256');
  let sizeBytes = 0;
  try {
    for await (const chunk of source.open(artifact.path, ctx.signal)) {
      hash.update(chunk);
      sizeBytes += chunk.byteLength;
      advance(chunk.byteLength);
    }
  } catch (error) {
    if (ctx.signal.aborted) throw new InterruptedError('Interrupted; nothing was changed', { cause: error });
    if (!isDamage(error)) throw error;
    return damaged('artifact-damaged', error.message);
  }
  if (sizeBytes !== artifact.sizeBytes) {
    return damaged('artifact-size-differs', `Expected ${artifact.sizeBytes} bytes, found ${sizeBytes}`);
  }
  if (hash.digest('hex') !== artifact.sha256) return damaged('artifact-hash-differs', 'The SHA-256 differs');
  return undefined;
}

/** What the stored bytes are to blame for, as against a disk or a network that failed us. */
function isDamage(error: unknown): error is TarsError {
  return (
    error instanceof CorruptionError || (error instanceof TarsError && error.code === 'artifact-not-found')
  );
}
