import { createHash } from 'node:crypto';
import { CorruptionError } from '../../model/errors.ts';
import type { ManifestArtifact } from '../../model/manifest.ts';
import type { Bytes } from '../../ports/artifacts.ts';

/**
 * Passes the artifact through and fails at its end unless it was the one the manifest describes. A flipped byte
 * in a row's data is invisible to pg_restore.
 */
export async function* checked(
  bytes: Bytes,
  path: string,
  artifacts: ReadonlyMap<string, ManifestArtifact>,
): Bytes {
  const hash = createHash('sha256');
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
  const expected = artifacts.get(path);
  if (expected !== undefined && hash.digest('hex') === expected.sha256) return;
  throw new CorruptionError(`Artifact ${path} does not match the manifest: its SHA-256 differs`, {
    hint: 'Run tars check --read-data, and restore from another snapshot.',
  });
}
