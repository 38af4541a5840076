/**
 * The source texts of a JSON object's members, without parsing them: a large array of numbers can then go to plain
 * `JSON.parse`, ten times faster than lossless reading, and the rest be read losslessly.
 * @throws SyntaxError when the text is no object
 */
export function memberTexts(text: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>();
  let at = skipSpace(text, 0);
  if (text[at] !== '{') throw new SyntaxError('Not a JSON object');
  at = skipSpace(text, at + 1);
  while (text[at] === '"') {
    const keyEnd = stringEnd(text, at);
    const key = JSON.parse(text.slice(at, keyEnd)) as string;
    at = skipSpace(text, keyEnd);
    if (text[at] !== ':') throw new SyntaxError('Not a JSON object');
    const start = skipSpace(text, at + 1);
    at = valueEnd(text, start);
    members.set(key, text.slice(start, at).trimEnd());
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  if (text[at] !== '}') throw new SyntaxError('Not a JSON object');
  return members;
}

/** The source texts of a JSON array's items. @throws SyntaxError when the text is no array */
export function itemTexts(text: string): readonly string[] {
  const items: string[] = [];
  let at = skipSpace(text, 0);
  if (text[at] !== '[') throw new SyntaxError('Not a JSON array');
  at = skipSpace(text, at + 1);
  while (text[at] !== ']') {
    const end = valueEnd(text, at);
    items.push(text.slice(at, end).trimEnd());
    at = text[end] === ',' ? skipSpace(text, end + 1) : end;
  }
  return items;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && text.charCodeAt(at) <= 0x20) at++;
  return at;
}

/** The index after the string that starts at `from`. */
function stringEnd(text: string, from: number): number {
  for (let at = text.indexOf('"', from + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
  throw new SyntaxError('Unterminated JSON string');
}

/** The index of the `,`, `}` or `]` that ends the value that starts at `from`. */
function valueEnd(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) at = stringEnd(text, at) - 1;
    else if (code === 0x5b || code === 0x7b) depth++;
    else if (depth === 0 && (code === 0x2c || code === 0x5d || code === 0x7d)) return at;
    else if (code === 0x5d || code === 0x7d) depth--;
  }
  throw new SyntaxError('Unterminated JSON value');
}
