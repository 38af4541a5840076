/**
 * Names of files are bytes. Here they are JavaScript strings in which a byte that is not valid UTF-8 stands as the lone
 * surrogate U+DC00 + byte (Python's `surrogateescape`, PEP 383), so that every name survives, and every name that is
 * UTF-8 is the string one expects.
 */

/** UTF-8 to string; bytes that are not UTF-8 become lone surrogates U+DC80 to U+DCFF. */
export function decodeLossless(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  if (!text.includes('\ufffd')) return text;
  let result = '';
  for (let at = 0; at < bytes.length;) {
    const character = characterAt(bytes, at);
    result += character ?? String.fromCharCode(0xdc00 + (bytes[at] ?? 0));
    at += character === undefined ? 1 : Buffer.byteLength(character);
  }
  return result;
}

function characterAt(bytes: Buffer, at: number): string | undefined {
  const first = bytes[at] ?? 0;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  const sequence = bytes.subarray(at, at + length);
  const text = sequence.toString('utf8');
  return Buffer.from(text).equals(sequence) ? text : undefined;
}

/** The bytes of a name as {@link decodeLossless} made it. Names are sorted by these. */
export function encodeLossless(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name);
  return Buffer.concat(
    Array.from(name, (character) => {
      const code = character.codePointAt(0) ?? 0;
      return isEscapedByte(code) ? Buffer.of(code & 0xff) : Buffer.from(character);
    }),
  );
}

/** Whether this code point stands for a byte that is not UTF-8. */
export function isEscapedByte(code: number): boolean {
  return code >= 0xdc80 && code <= 0xdcff;
}
