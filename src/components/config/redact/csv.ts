import { suspicionOf } from '../../../model/secret-names.ts';
import { redactQuoted, redactText, type Redaction } from './text.ts';

/** One field, which may be in quotes and then hold anything, and what ends it. */
const fieldsOf = (delimiter: string): RegExp =>
  new RegExp(String.raw`("(?:[^"]|"")*"|[^${delimiter}\r\n]*)(${delimiter}|\r?\n|$)`, 'g');

/** Redacts a table whose first line names the columns (RFC 4180); undefined when it names no secret one. */
export function redactTable(text: string, redaction: Redaction): string | undefined {
  const head = /^[^\n]*/.exec(text)?.[0].trimEnd() ?? '';
  const delimiter = [',', ';', '\t', '|'].find((sign) => head.includes(sign));
  if (delimiter === undefined) return undefined;
  const names = head.split(delimiter).map((name) => name.replaceAll('"', '').trim());
  if (!names.every(isName) || !names.some((name) => suspicionOf(name) !== 'none')) return undefined;
  let column = 0;
  const rows = text
    .slice(head.length)
    .replace(fieldsOf(delimiter === '|' ? '\\|' : delimiter), (_, raw: string, end: string) => {
      const name = names[column] ?? '';
      column = end === delimiter ? column + 1 : 0;
      const shown =
        suspicionOf(name) === 'none' ? redactText(raw, redaction) : redactQuoted(name, raw, redaction);
      return `${shown}${end}`;
    });
  return head + rows;
}

const isName = (text: string): boolean => /^[\p{L}\p{N} _.-]{0,80}$/u.test(text);
