/**
 * JSON as Go's `encoding/json` writes it, which restic repositories require of trees: equal trees must have equal
 * hashes whoever wrote them (restic `doc/design.rst`, "Trees and Data"). Key order is the caller's.
 */

/** Values {@link encodeGoJson} takes. `undefined` members are left out, as Go's `omitempty` does. */
export type GoJsonValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly GoJsonValue[]
  | { readonly [key: string]: GoJsonValue | undefined };

/** Go escapes these so that JSON can stand inside HTML and JavaScript. */
const htmlSensitive = /[<>&\u2028\u2029]/g;
/** It stands for a byte that is not UTF-8. */
const loneSurrogate = /\p{Surrogate}/u;

/** The JSON text, in the order of the members and without any white space or newline at the end. */
export function encodeGoJson(value: GoJsonValue): string {
  if (typeof value === 'string') return encodeGoString(value);
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(encodeGoJson).join(',')}]`;
  const members = Object.entries(value as Record<string, GoJsonValue | undefined>).flatMap(([key, member]) =>
    member === undefined ? [] : [`${encodeGoString(key)}:${encodeGoJson(member)}`],
  );
  return `{${members.join(',')}}`;
}

/** A byte that is not UTF-8 is `\ufffd`; the character U+FFFD stands as it is. */
function encodeGoString(text: string): string {
  if (!text.isWellFormed()) {
    return `"${text
      .split(loneSurrogate)
      .map((part) => encodeGoString(part).slice(1, -1))
      .join('\\ufffd')}"`;
  }
  return JSON.stringify(text).replace(
    htmlSensitive,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Integers up to this are exact as a JavaScript number. */
const exactDigits = 15;

/**
 * Parses JSON; integers that a JavaScript number cannot hold come back as bigint (inodes and device numbers use
 * all 64 bits).
 * @throws SyntaxError
 */
export function parseJson64(text: string): unknown {
  // The third argument is ECMAScript's JSON.parse source text access, which the library types do not have yet.
  const revive = (_key: string, value: unknown, context?: { source?: string }): unknown => {
    if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
    const source = context?.source;
    return source !== undefined && source.length > exactDigits && /^-?\d+$/.test(source)
      ? BigInt(source)
      : value;
  };
  return JSON.parse(text, revive);
}
