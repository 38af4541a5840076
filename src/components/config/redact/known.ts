import { placeholder } from './placeholder.ts';

/** Shorter ones occur in innocent text too often to be replaced wherever they stand. */
export const replaceableLengthMin = 8;

/** The secrets as they may be spelled: as they are, percent-encoded, escaped for JSON, in base64. */
export function spellings(secrets: readonly string[]): string[] {
  const all = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < replaceableLengthMin || secret.includes(placeholder)) continue;
    all.add(secret);
    if (secret.isWellFormed()) all.add(encodeURIComponent(secret));
    all.add(JSON.stringify(secret).slice(1, -1));
    all.add(Buffer.from(secret).toString('base64'));
    all.add(Buffer.from(secret).toString('base64url'));
  }
  return [...all].sort((a, b) => b.length - a.length);
}

/** Replaces every spelling of every known secret, longest first. */
export function replaceKnown(text: string, known: readonly string[]): string {
  let result = text;
  for (const spelling of known)
    if (result.includes(spelling)) result = result.replaceAll(spelling, placeholder);
  return result;
}
