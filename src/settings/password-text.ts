/**
 * Text of a file of passwords as restic reads one (`internal/textfile`, then Go's `strings.TrimSpace`): a byte order
 * mark says what it is encoded in, and goes, and so do blanks around the password. Undefined for what is no text.
 */
export function readAsRestic(bytes: Uint8Array): string | undefined {
  try {
    return trimAsRestic(new TextDecoder(encodingOf(bytes), { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function encodingOf([first, second]: Uint8Array): string {
  if (first === 0xff && second === 0xfe) return 'utf-16le';
  return first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
}

/** Unicode's White_Space, which is not what JavaScript trims. */
const blanks = '[\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const around = new RegExp(`^${blanks}|${blanks}$`, 'g');

/** What restic makes of the output of a password command. */
export const trimAsRestic = (text: string): string => text.replace(around, '');
