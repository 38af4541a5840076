import { createHash } from 'node:crypto';

/** Measured on Chroma 1.0.0: "3-512 characters from [a-zA-Z0-9._-]"; before 1.0 the limit was 63. */
const longestName = 512;
const longestNameBefore1 = 63;

/**
 * The name of a collection's staged (`new`) or set-aside (`prev`) generation: `<name>_tars_new_<restoreId>`. A name
 * too long for that keeps its beginning and a hash, so that two long names stay apart.
 */
export function generationName(
  name: string,
  generation: 'new' | 'prev',
  restoreId: string,
  serverVersion: string,
): string {
  const longest = serverVersion.startsWith('0.') ? longestNameBefore1 : longestName;
  const suffix = `_tars_${generation}_${restoreId}`;
  if (name.length + suffix.length <= longest) return `${name}${suffix}`;
  const nameHash = createHash('sha256').update(name).digest('hex').slice(0, 12);
  return `${name.slice(0, longest - suffix.length - nameHash.length - 1)}-${nameHash}${suffix}`;
}

/** True for a name that {@link generationName} makes. */
export function isGenerationName(name: string): boolean {
  return /_tars_(new|prev)_[a-z0-9]+$/.test(name);
}
