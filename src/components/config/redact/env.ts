import { suspicionOf } from './key-words.ts';
import { redactLine } from './lines.ts';
import { redacted } from './placeholder.ts';
import { redactJson } from './structured.ts';
import { redactSetting, redactText, type Redaction } from './text.ts';

const assignment = /^([ \t]*(?:export[ \t]+)?)([A-Za-z_][\w.-]*)([ \t]*=[ \t]*)/;

interface ParsedValue {
  /** What stands before and after the value, such as quotes. */
  readonly open: string;
  readonly value: string;
  readonly close: string;
  /** After the value up to the end of its last line: blanks and a comment. */
  readonly rest: string;
  readonly length: number;
}

/**
 * `.env` files as Compose, dotenv and shells read them: `export`, indents, blanks around `=`, single and double quotes
 * over several lines, unquoted private keys over several lines, comments.
 */
export function redactEnv(text: string, redaction: Redaction): string {
  let result = '';
  let position = 0;
  while (position < text.length) {
    const match = assignment.exec(text.slice(position, lineEnd(text, position)));
    if (match === null) {
      const end = lineEnd(text, position);
      result += redactLine(text.slice(position, end), redaction) + text.slice(end, end + 1);
      position = end + 1;
      continue;
    }
    const [head, , key = ''] = match;
    const parsed = parseValue(text, position + head.length);
    result += head + redactValue(key, parsed, redaction);
    position += head.length + parsed.length;
    if (position < text.length) {
      result += text.charAt(position);
      position += 1;
    }
  }
  return result;
}

function lineEnd(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end;
}

function parseValue(text: string, start: number): ParsedValue {
  const quote = text.charAt(start);
  if (quote === '"' || quote === "'" || quote === '`') {
    const end = closingQuote(text, start, quote);
    if (end >= 0) {
      const rest = text.slice(end + 1, lineEnd(text, end));
      return {
        open: quote,
        value: text.slice(start + 1, end),
        close: quote,
        rest,
        length: end + 1 + rest.length - start,
      };
    }
  }
  const block = /^-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/.exec(text.slice(start));
  const line = text.slice(start, lineEnd(text, start));
  const value = block?.[0] ?? /^(.*?)(?=\s+#|\s*$)/.exec(line)?.[0] ?? line;
  const rest = text.slice(start + value.length, lineEnd(text, start + value.length));
  return { open: '', value, close: '', rest, length: value.length + rest.length };
}

/** A quote that is followed by nothing but blanks and a comment; a quote inside the value is none. */
function closingQuote(text: string, start: number, quote: string): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text.charAt(at) === '\\' && quote === '"') at += 1;
    else if (text.charAt(at) === quote && /^[ \t\r]*(?:#|$)/.test(text.slice(at + 1, lineEnd(text, at))))
      return at;
  }
  return -1;
}

function redactValue(key: string, parsed: ParsedValue, redaction: Redaction): string {
  const { open, value, close, rest } = parsed;
  const suspicion = suspicionOf(key);
  // Docker takes ` #tail` for a part of the value; only what is clearly a comment survives beside a secret.
  const tailIsValue = suspicion === 'always' && open === '' && /^\s+#\S/.test(rest);
  if (tailIsValue) {
    const cut = rest.trimEnd();
    redaction.found.add(value);
    return redacted(value + cut, redaction.found) + rest.slice(cut.length);
  }
  const shown =
    (suspicion === 'none' ? redactJsonIn(parsed, redaction) : undefined) ??
    redactSetting(key, value, redaction);
  if (shown !== value && open === '"') redaction.found.add(unescaped(value));
  return `${open}${shown}${close}${/#/.test(rest) ? redactLine(rest, redaction) : redactText(rest, redaction)}`;
}

/** A value that is JSON, in whichever quotes; undefined when it is none. */
function redactJsonIn({ open, value }: ParsedValue, redaction: Redaction): string | undefined {
  if (open !== '"' || !value.includes('\\"')) return redactJson(value, redaction);
  const shown = redactJson(unescaped(value), redaction);
  return shown?.replaceAll(/[\\"]/g, '\\$&');
}

/** What a double-quoted value means. */
function unescaped(value: string): string {
  const letters: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
  return value.replace(/\\([\s\S])/g, (_, char: string) => letters[char] ?? char);
}
