import { placeholder } from './placeholder.ts';

/** Shorter ones occur in innocent text too often to be replaced wherever they stand. */
export const replaceableLengthMin = 8;

/**
 * The secrets as they may be spelled: as they are, escaped for URLs, JSON, XML, shells and SQL, in hexadecimal, in
 * base64, alone or in the midst of something that was encoded with them.
 */
export function spellings(secrets: readonly string[]): string[] {
  const all = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < replaceableLengthMin || secret.includes(placeholder)) continue;
    const hexadecimal = Buffer.from(secret).toString('hex');
    const escaped = [...escapes.map((escape) => escape(secret)), hexadecimal, hexadecimal.toUpperCase()];
    for (const spelling of [secret, ...escaped, ...base64Spellings(secret)]) all.add(spelling);
  }
  return [...all].sort((a, b) => b.length - a.length);
}

const jsonEscaped = (secret: string): string => JSON.stringify(secret).slice(1, -1);
const urlEscaped = (secret: string): string => (secret.isWellFormed() ? encodeURIComponent(secret) : secret);
const escapes: readonly ((secret: string) => string)[] = [
  jsonEscaped,
  (secret) => jsonEscaped(secret).replaceAll('/', '\\/'),
  (secret) =>
    jsonEscaped(secret).replaceAll(
      /[^ -~]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  urlEscaped,
  (secret) => urlEscaped(secret).replaceAll(/%../g, (code) => code.toLowerCase()),
  (secret) => urlEscaped(secret).replaceAll('%20', '+'),
  (secret) =>
    secret.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;'),
  (secret) => secret.replaceAll("'", "'\\''"),
  (secret) => secret.replaceAll("'", "''"),
  (secret) => secret.replaceAll('$', '$$$$'),
];

/** At each of the three places in a group of three bytes; without the characters that its neighbours share. */
function base64Spellings(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const shifted = [0, 1, 2].flatMap((shift) => {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    const shared = (bytes.length + shift) % 3 === 0 ? 0 : 1;
    const own = encoded.slice([0, 2, 3][shift], encoded.length - shared);
    return own.length < replaceableLengthMin ? [] : [own];
  });
  const whole = bytes.toString('base64');
  return [whole, whole.replace(/=+$/, ''), ...shifted].flatMap((text) => [
    text,
    text.replaceAll('+', '-').replaceAll('/', '_'),
  ]);
}

/** Replaces every spelling of every known secret, longest first. */
export function replaceKnown(text: string, known: readonly string[]): string {
  let result = text;
  for (const spelling of known) {
    if (!result.includes(spelling)) continue;
    const digit = /^\d+$/.test(spelling) ? '\\d' : /^[0-9a-f]+$/i.test(spelling) ? '[0-9A-Fa-f]' : undefined;
    result =
      digit === undefined
        ? result.replaceAll(spelling, placeholder)
        : result.replaceAll(wholeNumber(spelling, digit), placeholder);
  }
  return result;
}

/** Digits in the midst of others are not the secret but a digest or an id; after `%20` they may be. */
const wholeNumber = (spelling: string, digit: string): RegExp =>
  new RegExp(`(?:(?<!${digit})|(?<=%[0-9A-Fa-f]{2}))${spelling}(?!${digit})`, 'g');
