import { decodeLossless, isEscapedByte } from '../../model/byte-text.ts';
import { CorruptionError } from '../../model/errors.ts';

/**
 * File names in trees are quoted with Go's `strconv.Quote` (without the outer quotes) before they are put into
 * JSON, so that any byte sequence survives. Here names are the strings of model/byte-text.ts.
 */

const simpleEscapes: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '"': '\\"',
  '\\': '\\\\',
};
const simpleUnescapes = new Map(Object.entries(simpleEscapes).map(([raw, quoted]) => [quoted[1], raw]));

/** Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space. */
const printable = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;
const plainAscii = /^[ !#-[\]-~]*$/;

/** The inside of `strconv.Quote(name)`. */
export function goQuote(name: string): string {
  if (plainAscii.test(name)) return name;
  return Array.from(name, quoteCharacter).join('');
}

function quoteCharacter(character: string): string {
  const simple = simpleEscapes[character];
  if (simple !== undefined) return simple;
  const code = character.codePointAt(0) ?? 0;
  if (isEscapedByte(code)) return `\\x${hex(code & 0xff, 2)}`;
  if (code < 0x20 || code === 0x7f) return `\\x${hex(code, 2)}`;
  if (printable.test(character)) return character;
  return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
}

/** Undoes {@link goQuote}. @throws CorruptionError when `quoted` has an escape Go does not know */
export function goUnquote(quoted: string): string {
  if (!quoted.includes('\\')) return quoted;
  // Escaped bytes may form a character only together, so everything goes through bytes.
  const parts: Uint8Array[] = [];
  let rest = quoted;
  while (rest !== '') {
    const next = rest.indexOf('\\');
    if (next === -1) {
      parts.push(Buffer.from(rest));
      break;
    }
    parts.push(Buffer.from(rest.slice(0, next)));
    const { bytes, length } = unescape(rest.slice(next), quoted);
    parts.push(bytes);
    rest = rest.slice(next + length);
  }
  return decodeLossless(Buffer.concat(parts));
}

function unescape(text: string, whole: string): { bytes: Uint8Array; length: number } {
  const simple = simpleUnescapes.get(text[1]);
  if (simple !== undefined) return { bytes: Buffer.from(simple), length: 2 };
  const byte = /^\\(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2}))/.exec(text);
  if (byte) {
    const value = byte[1] === undefined ? Number.parseInt(byte[2] ?? '', 8) : Number.parseInt(byte[1], 16);
    return { bytes: Uint8Array.of(value), length: byte[0].length };
  }
  const rune = /^\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/.exec(text);
  const code = Number.parseInt(rune?.[1] ?? rune?.[2] ?? '', 16);
  if (!rune || code > 0x10ffff) throw new CorruptionError(`The name "${whole}" is not quoted as Go would`);
  return { bytes: Buffer.from(String.fromCodePoint(code)), length: rune[0].length };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
