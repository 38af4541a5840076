import { withinShellQuotes } from '../../../model/shell-word.ts';
import { placeholder } from './placeholder.ts';

/** Shorter ones occur in innocent text too often to be replaced wherever they stand. */
export const replaceableLengthMin = 8;

/** Replaces the spellings of known secrets in any text, in one pass whatever their number. */
export interface Replacer {
  replace(text: string): string;
  /** Where they stand in a text: from there, up to there. In order, none within another. */
  find(text: string): Iterable<readonly [number, number]>;
}

/** What may not stand beside a spelling: it would be a part of something else. */
type Boundary = 'none' | 'digit' | 'hexadecimal' | 'word';

/**
 * A replacer for the secrets as they may be spelled: as they are, escaped for URLs, JSON, XML, shells and SQL, in
 * hexadecimal, in base64, alone or in the midst of something that was encoded with them. A secret of plain words is
 * replaced only where it stands by itself: in paths and longer names the same words mean something else.
 */
export function replacerOf(secrets: readonly string[]): Replacer {
  /** By their first characters, then by length. */
  const byStart = new Map<string, Map<number, Map<string, Boundary>>>();
  const firstPairs = new Uint8Array(65_536);
  for (const spelling of spellings(secrets)) {
    const start = spelling.slice(0, replaceableLengthMin);
    const byLength = byStart.get(start) ?? new Map<number, Map<string, Boundary>>();
    const same = byLength.get(spelling.length) ?? new Map<string, Boundary>();
    byStart.set(start, byLength.set(spelling.length, same.set(spelling, boundaryOf(spelling))));
    firstPairs[pairAt(spelling, 0)] = 1;
  }
  const matchEnd = (text: string, at: number): number | undefined => {
    const byLength = byStart.get(text.slice(at, at + replaceableLengthMin));
    if (byLength === undefined) return undefined;
    for (const length of [...byLength.keys()].sort((a, b) => b - a)) {
      const boundary = byLength.get(length)?.get(text.slice(at, at + length));
      if (boundary !== undefined && standsAlone(text, at, at + length, boundary)) return at + length;
    }
    return undefined;
  };
  function* find(text: string): Generator<readonly [number, number]> {
    if (byStart.size === 0) return;
    for (let at = 0; at + replaceableLengthMin <= text.length; at++) {
      if (firstPairs[pairAt(text, at)] === 0) continue;
      const end = matchEnd(text, at);
      if (end === undefined) continue;
      yield [at, end];
      at = end - 1;
    }
  }
  return {
    find,
    replace(text) {
      let [result, position] = ['', 0];
      for (const [start, end] of find(text)) {
        result += text.slice(position, start) + placeholder;
        position = end;
      }
      return position === 0 ? text : result + text.slice(position);
    },
  };
}

const pairAt = (text: string, at: number): number =>
  ((text.charCodeAt(at) & 0xff) << 8) | (text.charCodeAt(at + 1) & 0xff);

function boundaryOf(spelling: string): Boundary {
  if (/^\d+$/.test(spelling)) return 'digit';
  if (/^[0-9a-f]+$/i.test(spelling)) return 'hexadecimal';
  return isPlainWords(spelling) ? 'word' : 'none';
}

/** `nextcloud`, `tars-home`: words that also name products, paths and projects. */
export const isPlainWords = (text: string): boolean => /^[A-Za-z]?[a-z]+(?:[-_. ][a-z]+)*$/.test(text);

/** Digits in the midst of others are not the secret but a digest or an id; after `%20` they may be. */
function standsAlone(text: string, start: number, end: number, boundary: Boundary): boolean {
  if (boundary === 'none') return true;
  const [before, after] = [text.slice(Math.max(0, start - 3), start), text.slice(end, end + 2)];
  if (boundary === 'word') return !/[\w/.@-]$/.test(before) && !/^(?:[\w/-]|[.:]\w)/.test(after);
  const neighbour = boundary === 'digit' ? /\d/ : /[0-9a-f]/i;
  return (
    (!neighbour.test(before.slice(-1)) || /%[0-9a-f]{2}$/i.test(before)) && !neighbour.test(after.charAt(0))
  );
}

function spellings(secrets: readonly string[]): Set<string> {
  const all = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < replaceableLengthMin || secret.includes(placeholder)) continue;
    const hexadecimal = Buffer.from(secret).toString('hex');
    const escaped = [...escapes.map((escape) => escape(secret)), hexadecimal, hexadecimal.toUpperCase()];
    for (const spelling of [secret, ...escaped, ...base64Spellings(secret)]) all.add(spelling);
  }
  return all;
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
  withinShellQuotes,
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
