import { namePattern, suspicionOf } from '../../../model/secret-names.ts';
import { redactLine } from './lines.ts';
import { redacted } from './placeholder.ts';
import { redactJson } from './structured.ts';
import { redactSetting, redactText, type Redaction } from './text.ts';

const assignment = new RegExp(`^([ \\t]*(?:export[ \\t]+)?)(${namePattern})([ \\t]*=[ \\t]*)`, 'u');

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
  const closing = new ClosingQuotes(text);
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
    const parsed = parseValue(text, position + head.length, closing);
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

function parseValue(text: string, start: number, closing: ClosingQuotes): ParsedValue {
  const quote = text.charAt(start);
  if (quote === '"' || quote === "'" || quote === '`') {
    const end = closing.after(start, quote);
    if (end !== undefined) {
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
  const line = text.slice(start, lineEnd(text, start));
  const block = /^-----BEGIN ([A-Z0-9 ]{1,40})-----/.exec(line)?.[1];
  const blockEnd =
    block === undefined ? -1 : text.slice(start, start + blockLengthMax).indexOf(`-----END ${block}-----`);
  const comment = line.search(/\s#/);
  const value =
    blockEnd >= 0
      ? text.slice(start, start + blockEnd + `-----END ${block ?? ''}-----`.length)
      : line.slice(0, comment < 0 ? line.length : comment).trimEnd();
  const rest = text.slice(start + value.length, lineEnd(text, start + value.length));
  return { open: '', value, close: '', rest, length: value.length + rest.length };
}

/** Longer than any private key. */
const blockLengthMax = 20_000;

/**
 * Quotes that are followed by nothing but blanks and a comment; a quote inside the value is none. They are collected
 * once, so that many values whose quote nobody closes cost no more than one.
 */
class ClosingQuotes {
  readonly #text: string;
  readonly #positions = new Map<string, readonly number[]>();
  readonly #next = new Map<string, number>();

  constructor(text: string) {
    this.#text = text;
  }

  /** The first one after `start`, which only ever grows. */
  after(start: number, quote: string): number | undefined {
    const positions = this.#positions.get(quote) ?? this.#collect(quote);
    let next = this.#next.get(quote) ?? 0;
    while ((positions[next] ?? Infinity) <= start) next += 1;
    this.#next.set(quote, next);
    return positions[next];
  }

  #collect(quote: string): readonly number[] {
    const positions: number[] = [];
    for (const { index } of this.#text.matchAll(new RegExp(`${quote}(?=[ \\t\\r]{0,200}(?:#|$))`, 'gm'))) {
      const escapes =
        quote === '"' ? (/\\*$/.exec(this.#text.slice(Math.max(0, index - 20), index))?.[0].length ?? 0) : 0;
      if (escapes % 2 === 0) positions.push(index);
    }
    this.#positions.set(quote, positions);
    return positions;
  }
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
    // Nothing expands what stands in single quotes.
    redactSetting(key, value, redaction, open === "'");
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
