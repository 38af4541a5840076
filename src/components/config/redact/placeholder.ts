/** Stands for a secret in every redacted view. */
export const placeholder = '[redacted]';

/** What a redaction found. Mutable while a file is walked; the caller gets the sorted list. */
export type Found = Set<string>;

/** Puts the placeholder for `secret`, remembering it. Empty values are no secrets. */
export function redacted(secret: string, found: Found): string {
  if (secret === '' || secret === placeholder) return secret;
  found.add(secret);
  return placeholder;
}

/** Undoes percent encoding where there is any. */
export function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
