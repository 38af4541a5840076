import { namePattern, suspicionOf } from './secret-names.ts';

/** Gives back a value, with its quotes, of a setting or column of that name: changed when it is secret. */
type HideValue = (key: string, raw: string) => string;

/** `'x'`, `E'x\''`, `U&'x'`, `$$x$$`, `$tag$x$tag$`. Every part is bounded or ends at the next quote. */
const literal = String.raw`[eE]'(?:[^'\\]|''|\\.)*'|(?:[nN]|[uU]&)?'(?:[^']|'')*'|\$(?:\$[^$]{0,1000}\$|(?<tag>[A-Za-z_]\w{0,30})\$[^$]{0,1000}\$\k<tag>)\$`;
/** Strings with a backslash before a quote, as MySQL has them. */
const escaped = String.raw`'(?:[^'\\]|''|\\.)*'`;

const identified = new RegExp(
  String.raw`(\bIDENTIFIED\s{1,9}(?:WITH\s{1,9}\S{1,60}\s{1,9})?(?:BY|AS)\s{1,9}(?:PASSWORD\s{1,9})?)(${escaped})`,
  'gi',
);
/** `PASSWORD 'x'`, `PASSWORD('x')`, `OPTIONS (user 'a', password 'x')` */
const named = new RegExp(
  String.raw`(?<![\p{L}\p{N}_.$-])((${namePattern})(?:\s{1,9}|\s{0,9}\(\s{0,9}))(${literal})`,
  'gsu',
);
/** `ALTER ROLE a SET app.jwt_secret TO 'x'` */
const set = new RegExp(
  String.raw`(\bSET\s{1,9}(?:(?:SESSION|LOCAL)\s{1,9})?"?(${namePattern})"?\s{0,9}(?:=|\bTO\b)\s{0,9})(${literal}|[^\s;'"]{1,1000})`,
  'gisu',
);
const encrypting = new RegExp(String.raw`(\b(?:crypt|create_secret)\s{0,9}\(\s{0,9})(${literal})`, 'gis');
/** `pgp_sym_encrypt(text, 'x')`: the key is the second argument. */
const keyed = new RegExp(
  String.raw`(\bpgp_sym_(?:en|de)crypt(?:_bytea)?\s{0,9}\(\s{0,9}(?:'(?:[^']|'')*'|[^,'()]{1,200})\s{0,9},\s{0,9})(${literal})`,
  'gis',
);
const insertHead =
  /\bINSERT\s{1,9}(?:IGNORE\s{1,9})?INTO\s{1,9}[^\s(]{1,130}\s{0,9}\(([^()]{1,1000})\)\s{0,9}VALUES\s{0,9}(?=\()/gi;
const copyHead = /^COPY\s{1,9}[^\s(]{1,130}\s{0,9}\(([^()]{1,1000})\)\s{1,9}FROM\s{1,9}stdin\b.*$/gim;

/** Passwords and secret values in SQL: of roles, servers, settings, and of the rows that INSERT and COPY bring. */
export function redactSql(text: string, hide: HideValue): string {
  if (!/['$]|\bstdin\b/i.test(text)) return text;
  const always: HideValue = (key, raw) => (suspicionOf(key) === 'always' ? hide(key, raw) : raw);
  const result = text
    .replace(identified, (_, before: string, raw: string) => `${before}${hide('password', raw)}`)
    .replace(named, (_, before: string, key: string, raw: string) => `${before}${always(key, raw)}`)
    .replace(set, (_, before: string, key: string, raw: string) => `${before}${hide(key, raw)}`)
    .replace(encrypting, (_, before: string, raw: string) => `${before}${hide('password', raw)}`)
    .replace(keyed, (_, before: string, raw: string) => `${before}${hide('password', raw)}`);
  return redactCopies(redactInserts(result, hide), hide);
}

/** The same for a message: each secret value becomes `***`. For error texts that quote statements. */
export const hideSqlSecrets = (text: string): string =>
  redactSql(text, (key, raw) => (suspicionOf(key) === 'none' ? raw : `'***'`));

const columnsOf = (list: string): string[] => list.split(',').map((name) => name.replace(/["`\s[\]]/g, ''));

function redactInserts(text: string, hide: HideValue): string {
  let [result, position] = ['', 0];
  for (const match of text.matchAll(insertHead)) {
    if (match.index < position) continue;
    const columns = columnsOf(match[1] ?? '');
    const begin = match.index + match[0].length;
    for (const { start, end, column } of rowValues(text, begin)) {
      result += text.slice(position, start) + hide(columns[column] ?? '', text.slice(start, end));
      position = end;
    }
  }
  return result + text.slice(position);
}

/** Deeper than any value; keeps a text of nothing but brackets from being read again and again. */
const parenthesesMax = 8;

/** The values of `(1, 'a'), (2, 'b')`, each by position; ends where no further row follows. */
function* rowValues(text: string, from: number): Generator<{ start: number; end: number; column: number }> {
  let [depth, column, start] = [0, 0, from];
  for (let at = from; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) return;
      at = end;
    } else if (char === '(') {
      depth += 1;
      if (depth > parenthesesMax) return;
      if (depth === 1) [column, start] = [0, at + 1];
    } else if (depth === 1 && (char === ',' || char === ')')) {
      yield { ...trimmedRange(text, start, at), column };
      [column, start] = [column + 1, at + 1];
      if (char === ')') depth = 0;
    } else if (char === ')') depth -= 1;
    else if (depth === 0 && !/[\s,]/.test(char)) return;
  }
}

function trimmedRange(text: string, start: number, end: number): { start: number; end: number } {
  const inner = text.slice(start, end);
  const first = start + inner.length - inner.trimStart().length;
  return { start: first, end: Math.max(first, end - (inner.length - inner.trimEnd().length)) };
}

/** The lines of `COPY … FROM stdin`, up to `\.`, as pg_dump writes them. */
function redactCopies(text: string, hide: HideValue): string {
  let [result, position] = ['', 0];
  for (const match of text.matchAll(copyHead)) {
    const columns = columnsOf(match[1] ?? '');
    const begin = match.index + match[0].length + 1;
    if (begin <= position) continue;
    const ending = text.indexOf('\n\\.', begin - 1);
    const end = ending < 0 ? text.length : ending + 1;
    const rows = text.slice(begin, end).split('\n');
    const shown = rows.map((row) =>
      row
        .split('\t')
        .map((value, i) => (value === '\\N' ? value : hide(columns[i] ?? '', value)))
        .join('\t'),
    );
    result += text.slice(position, begin) + shown.join('\n');
    position = end;
  }
  return result + text.slice(position);
}
