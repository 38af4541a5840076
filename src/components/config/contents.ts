import { createHash } from 'node:crypto';
import { formatBytes } from '../../model/bytes.ts';
import { CorruptionError, RestoreRefusedError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import { parseConfigFacts, type CapturedFile } from './facts.ts';
import { configBytesMax, pathInSnapshot } from './files.ts';
import type { ConfigPlace, ConfigPlanDetails } from './plan.ts';
import { unseal } from './sealed.ts';

/** SHA-256 in lower-case hex. */
export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * The content of one file as the snapshot's component `from` holds it; undefined when it has no true copy of it.
 * @throws CorruptionError when the copy is damaged
 * @throws RestoreRefusedError when it is sealed and there is no age identity
 */
export async function capturedContent(
  path: string,
  from: ComponentManifest,
  ageIdentityFile: string | undefined,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { trueCopy, files } = parseConfigFacts(from.facts, from.name);
  const file = files.find((captured) => captured.path === path);
  if (file === undefined || trueCopy === 'none') return undefined;
  const contentOf = await contents(
    { ageIdentityFile },
    { trueCopy, folder: from.name, files },
    source,
    signal,
  );
  return contentOf(file);
}

/** How to get a file's bytes from the snapshot; checked against the facts where these hold a hash. */
export async function contents(
  place: Pick<ConfigPlace, 'ageIdentityFile'>,
  { trueCopy, folder, files }: Pick<ConfigPlanDetails, 'trueCopy' | 'folder' | 'files'>,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<(file: CapturedFile) => Promise<Uint8Array>> {
  if (trueCopy !== 'sealed') {
    const part = trueCopy === 'repository' ? 'true' : 'redacted';
    return async (file) => {
      const bytes = await collect(source, `${folder}/${part}/${pathInSnapshot(file.path)}`, signal);
      return trueCopy === 'repository' ? checked(file, bytes) : bytes;
    };
  }
  if (files.length === 0) return () => Promise.reject(new TypeError('There is no file to restore'));
  const identityFile = place.ageIdentityFile;
  if (identityFile === undefined)
    throw new RestoreRefusedError(`Cannot restore ${folder}: there is no age identity`, {
      hint: 'Set age_identity_file in tars.yaml to the file that age-keygen wrote.',
    });
  const sealed = await unseal(
    source.open(`${folder}/sealed.age`, signal),
    identityFile,
    `${folder}/sealed.age`,
  );
  return (file) => {
    const bytes = sealed.get(pathInSnapshot(file.path));
    if (bytes !== undefined) return Promise.resolve(checked(file, bytes));
    return Promise.reject(new CorruptionError(`${folder}/sealed.age does not hold ${file.path}`));
  };
}

function checked(file: CapturedFile, bytes: Uint8Array): Uint8Array {
  if (file.sha256 === undefined || sha256Of(bytes) === file.sha256) return bytes;
  throw new CorruptionError(`${file.path} in the snapshot differs from what was captured`);
}

async function collect(source: ArtifactSource, path: string, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of source.open(path, signal)) {
    sizeBytes += chunk.byteLength;
    // Placeholders may make a redacted view longer than its file.
    if (sizeBytes > 4 * configBytesMax)
      throw new CorruptionError(
        `${path} in the snapshot is larger than ${formatBytes(4 * configBytesMax)}, so tars did not capture it as configuration`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
