/**
 * Words as Redis writes and reads them in redis.conf and in the manifest of an append-only file (`sdscatrepr` and
 * `sdssplitargs` in `src/sds.c`).
 */

/** The escapes of one letter. */
const letters = { n: 10, r: 13, t: 9, b: 8, a: 7 } as const;
const escapes = new Map<number, string>(Object.entries(letters).map(([letter, code]) => [code, letter]));

/** A word that Redis reads as `value`: as it is where that suffices, or else in double quotes. */
export function redisWord(value: string): string {
  if (/^[\w%+,./:=@-]+$/.test(value)) return value;
  const quoted = Array.from(Buffer.from(value), (byte) => {
    if (byte === 0x22 || byte === 0x5c) return `\\${String.fromCharCode(byte)}`;
    const letter = escapes.get(byte);
    if (letter !== undefined) return `\\${letter}`;
    const isPrintable = byte >= 0x20 && byte < 0x7f;
    return isPrintable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  });
  return `"${quoted.join('')}"`;
}

/** The words of one line; undefined where its quotes are not closed, or are followed by no blank. */
export function redisWords(line: string): readonly string[] | undefined {
  const word = /\s*(?:"((?:\\[^]|[^"\\])*)"(?=\s|$)|'((?:\\'|[^'])*)'(?=\s|$)|([^\s"']\S*))/y;
  const words: string[] = [];
  for (word.lastIndex = 0; word.lastIndex < line.trimEnd().length;) {
    const found = word.exec(line);
    if (found === null) return undefined;
    const [, double, single, bare = ''] = found;
    words.push(double === undefined ? (single?.replaceAll("\\'", "'") ?? bare) : unescaped(double));
  }
  return words;
}

/** The settings of a redis.conf, names in lower case. Of one that stands there twice, the last counts. */
export function redisSettings(text: string): ReadonlyMap<string, string> {
  const lines = text.split('\n').map((line) => redisWords(line.trim()) ?? []);
  return new Map(
    lines.flatMap(([name = '#', value]) =>
      name.startsWith('#') || value === undefined ? [] : [[name.toLowerCase(), value] as const],
    ),
  );
}

function unescaped(text: string): string {
  const bytes = [...text.matchAll(/\\x([0-9a-fA-F]{2})|\\([^])|([^\\]+)/g)].map(
    ([, hex, escaped, plain = '']) => {
      if (hex !== undefined) return Buffer.of(parseInt(hex, 16));
      const code = escaped === undefined ? undefined : letters[escaped as keyof typeof letters];
      return code === undefined ? Buffer.from(escaped ?? plain) : Buffer.of(code);
    },
  );
  return Buffer.concat(bytes).toString();
}
