import { suspicionOf } from '../../../model/secret-names.ts';
import type { RedactNamed } from './clauses.ts';
import { Quotes, quotedLists } from './lists.ts';
import { readsPassword, rulesFor, type ProgramRule } from './programs.ts';

/** A part of a word that is secret, and what its option is called. */
export interface SecretPart {
  readonly word: number;
  /** Where it begins in the word; it goes to the end of the word. */
  readonly from: number;
  readonly key: string;
}

const flag = /^--?([\p{L}][\p{L}\p{N}_.-]{1,80})(=|$)/u;
const assigned = /^([\p{L}_][\p{L}\p{N}_.-]{0,80})=/u;
/** `pass:x` and the like of OpenSSL say themselves where the password is. */
const indirect = /^(?:pass|env|file|fd):/;

/** Judges the words of one command, or the items of a list such as `["redis-server", "--requirepass", "x"]`. */
export function secretParts(words: readonly string[]): SecretPart[] {
  const ofPrograms: SecretPart[] = [];
  const seen = new Set<string>();
  for (const [i, text] of words.entries()) {
    const rules = seen.has(text) ? [] : rulesFor(text);
    seen.add(text);
    for (const rule of rules) ofPrograms.push(...partsOf(rule, words, i + 1));
  }
  // `-pnew-pw` names nothing when its program says what `-p` is.
  const glued = new Set(ofPrograms.filter(({ from }) => from > 0).map(({ word }) => word));
  const named = words.flatMap((_, i) => (glued.has(i) ? [] : (namedPart(words, i) ?? [])));
  return [...ofPrograms, ...named, ...settingParts(words)];
}

/** `--password x`, `--password=x`, `--user name:x`; `DB_PASSWORD=x y`, which quotes keep together. */
function namedPart(words: readonly string[], word: number): SecretPart | undefined {
  const text = words[word] ?? '';
  const [whole, name = '', equals] = flag.exec(text) ?? [];
  if (whole === undefined) {
    const [head, key = ''] = assigned.exec(text) ?? [];
    // Another setting after it, or quotes between them, divide the word.
    const isOne = /\s/.test(text) && !/\s[\w.-]+\s?=|["']\s|\s["']/.test(text);
    return isOne && head !== undefined && suspicionOf(key) !== 'none'
      ? { word, from: head.length, key }
      : undefined;
  }
  const value = equals === '=' ? text.slice(whole.length) : words[word + 1];
  if (value === undefined || (equals !== '=' && value.startsWith('-')) || indirect.test(value))
    return undefined;
  const place = equals === '=' ? { word, from: whole.length } : { word: word + 1, from: 0 };
  const key = name.replaceAll('-', '_');
  if (suspicionOf(key) !== 'none') return { ...place, key };
  if (/^--/.test(text) && /(?:^|_)(?:user|auth|userpwd)$/i.test(key) && isUserWithPassword(value))
    return { ...place, from: place.from + value.indexOf(':') + 1, key: 'password' };
  const echo = /(?:^|_)(?:pass|password|secret|token)_(?:command|cmd)$/i.test(key)
    ? echoedFrom(value)
    : undefined;
  return echo === undefined ? undefined : { ...place, from: place.from + echo, key: 'password' };
}

/** Where the secret begins in `echo secret`, the command that writes it; undefined when it is another command. */
export const echoedFrom = (command: string): number | undefined =>
  /^["']?\s*(?:echo|printf)\s+(?:-n\s+)?["']?/.exec(command)?.[0].length;

/** `app:s3cret`; `1000:1000` and `www-data:www-data` are a user and a group. */
function isUserWithPassword(value: string): boolean {
  const [, password] = /^[^\s:/@]+:([^\s:/]+)$/.exec(value) ?? [];
  return password !== undefined && /[^a-z-]/.test(password) && !/^\d+$/.test(password);
}

function partsOf(
  { apart, glued, pair, after, positions }: ProgramRule,
  words: readonly string[],
  from: number,
): SecretPart[] {
  const parts: SecretPart[] = [];
  const begin = after === undefined ? from : words.findIndex((word, i) => i >= from && after.test(word)) + 1;
  if (begin === 0) return parts;
  const add = (word: number, at: number): number => parts.push({ word, from: at, key: 'password' });
  for (let i = from; i < words.length; i++) {
    const [text = '', next] = [words[i], words[i + 1]];
    const head = glued?.exec(text)?.[0].length ?? 0;
    if (head > 0 && text.length > head) add(i, head);
    if (next !== undefined && !next.startsWith('-') && apart?.test(text) === true) add(i + 1, 0);
    const colon = next === undefined ? -1 : next.search(/[:%,]/);
    if (colon >= 0 && pair?.test(text) === true) add(i + 1, colon + 1);
  }
  const plain = words
    .map((text, i) => ({ text, i }))
    .filter(({ text, i }) => i >= begin && !text.startsWith('-'));
  for (const position of positions ?? []) {
    const found = plain.at(position);
    if (found !== undefined && !/^\w+=/.test(found.text)) add(found.i, 0);
  }
  return parts;
}

/** `config set requirepass x`, `configure set aws_secret_access_key x`, `nmcli … password x`; `acl setuser app >x`. */
function settingParts(words: readonly string[]): SecretPart[] {
  const parts: SecretPart[] = [];
  // `CREATE TABLE users (password text)`
  if (words.some((word) => /^(?:table|column)$/i.test(word))) return [];
  const setter = words.findIndex((word) => /^(?:set|connect|create|update|add)$/i.test(word));
  for (let i = setter + 1; setter >= 0 && i + 1 < words.length; i++) {
    const key = words[i] ?? '';
    if (
      !/^(?:-.*|to|=|:=|for|from|is|with|and|or)?$/i.test(words[i + 1] ?? '') &&
      /^[\w.-]{1,80}$/.test(key) &&
      suspicionOf(key) === 'always' &&
      isCommandWord(key)
    )
      parts.push({ word: i + 1, from: 0, key });
  }
  const acl = words.findIndex((word) => /^(?:setuser|--user)$/i.test(word));
  for (let i = acl + 2; acl >= 0 && i < words.length; i++)
    if (/^[><#!]./.test(words[i] ?? '')) parts.push({ word: i, from: 1, key: 'password' });
  return parts;
}

/** `kubectl create secret generic`: kinds of things, not their values. */
const isCommandWord = (word: string): boolean =>
  !/^(?:secrets?|passwords?|credentials?)$/.test(word) || word === 'password';

/** A word of a command, by position. */
interface Word {
  readonly start: number;
  readonly end: number;
  /** Without the quotes around all of it. */
  readonly text: string;
  /** How many characters of quotes were left off in front. */
  readonly quote: number;
  /** What quotes keep together in it, when it has blanks: often a setting or a command again, as in `sh -c "…"`. */
  readonly phrases: readonly Phrase[];
}

interface Phrase {
  readonly start: number;
  readonly text: string;
}

interface Command {
  readonly words: readonly Word[];
  /** What it wrote goes into the next one. */
  readonly isPiped: boolean;
}

/** Commands of a text, each a line or what separators leave of it; robust against quotes that nobody closes. */
function* commandsIn(text: string): Generator<Command> {
  const quotes = new Quotes(text);
  let words: Word[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    if (char === '\\' && /^\\\r?\n/.test(text.slice(at, at + 3))) at = text.indexOf('\n', at) + 1;
    else if (/[\s]/.test(char) && char !== '\n') at += 1;
    else if (/[\n;|&`]/.test(char)) {
      yield { words, isPiped: char === '|' };
      words = [];
      at += 1;
    } else {
      const phrases: Phrase[] = [];
      const end = wordEnd(text, at, quotes, phrases);
      words.push(wordAt(text, at, end, phrases));
      at = end;
    }
  }
  yield { words, isPiped: false };
}

function wordEnd(text: string, start: number, quotes: Quotes, phrases: Phrase[]): number {
  for (let at = start; at < text.length; at++) {
    const char = text.charAt(at);
    if (/[\s;|&`]/.test(char)) return Math.max(at, start + 1);
    if (char === '\\' && text.charAt(at + 1) !== '\n') at += 1;
    else if (char === '"' || (char === "'" && !isApostrophe(text, start, at))) {
      const inner = { start: at + 1, text: text.slice(at + 1, quotes.closing(at) ?? at + 1) };
      if (/\s/.test(inner.text)) phrases.push(inner);
      at += inner.text.length + (quotes.closing(at) === undefined ? 0 : 1);
    } else if (char === '$' && text.charAt(at + 1) === '(') at = substitutionEnd(text, at);
  }
  return text.length;
}

/** `don't`, but not `-p'x y'`. */
const isApostrophe = (text: string, start: number, at: number): boolean =>
  /\p{L}/u.test(text.charAt(at - 1)) && text.charAt(start) !== '-';

/** `$(command)` up to its bracket; a longer one is read as words. */
function substitutionEnd(text: string, at: number): number {
  return at + (/^\$\([^()\n]{0,200}\)/.exec(text.slice(at, at + 210))?.[0].length ?? 1) - 1;
}

function wordAt(text: string, start: number, end: number, phrases: readonly Phrase[]): Word {
  // What closes a list or a call after the word is no part of it.
  const raw = text.slice(start, end).replace(/(?<=["'])[,)\]}]{1,9}$/, '');
  const isQuoted = raw.length > 1 && /^["']/.test(raw) && raw.endsWith(raw.charAt(0));
  const quote = isQuoted ? 1 : 0;
  return { start, end: start + raw.length, text: raw.slice(quote, raw.length - quote), quote, phrases };
}

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly key: string;
}

const nestedMax = 3;

/** Passwords on command lines and in lists of arguments: `--password x`, `redis-cli -a x`, `curl -u user:x`, `mysql -px`. */
export function redactCommands(text: string, redact: RedactNamed): string {
  const edits = [...commandEdits(text, 0, 0), ...listEdits(text)].sort((a, b) => a.start - b.start);
  let [result, position] = ['', 0];
  for (const { start, end, key } of edits) {
    if (start < position) continue;
    result += text.slice(position, start) + redact(key, text.slice(start, end));
    position = end;
  }
  return result + text.slice(position);
}

function* commandEdits(text: string, offset: number, depth: number): Generator<Edit> {
  let written: readonly Word[] = [];
  for (const { words, isPiped } of commandsIn(text)) {
    const texts = words.map((word) => word.text);
    for (const { word, from, key } of secretParts(texts)) {
      const found = words[word];
      if (found !== undefined) yield partEdit(found, from, key, offset);
    }
    for (const word of readsPassword(texts) ? written : [])
      yield partEdit(word, pairStart(word.text), 'password', offset);
    written = isPiped ? echoed(words) : [];
    if (depth >= nestedMax) continue;
    for (const phrase of words.flatMap((word) => word.phrases)) {
      const [one] = secretParts([phrase.text]);
      const start = offset + phrase.start;
      if (one !== undefined) yield { start: start + one.from, end: start + phrase.text.length, key: one.key };
      else yield* commandEdits(phrase.text, start, depth + 1);
    }
  }
}

/** A whole word goes with its quotes, which the redaction keeps. */
function partEdit({ start, end, quote }: Word, from: number, key: string, offset: number): Edit {
  if (from === 0) return { start: offset + start, end: offset + end, key };
  return { start: offset + start + quote + from, end: offset + end - quote, key };
}

/** `root:x`, as chpasswd reads it. */
const pairStart = (text: string): number => (/^\w+:[^/]/.test(text) ? text.indexOf(':') + 1 : 0);

/** What `echo x` and `printf '%s' x` write. */
function echoed(words: readonly Word[]): readonly Word[] {
  const at = words.findIndex(({ text }) => /^(?:echo|printf)$/.test(text));
  if (at < 0) return [];
  return words.slice(at + 1).filter(({ text }) => !/^-[neE]+$|^%s(?:\\n)?$/.test(text));
}

function* listEdits(text: string): Generator<Edit> {
  for (const items of quotedLists(text))
    for (const { word, from, key } of secretParts(items.map((item) => item.text))) {
      const item = items[word];
      if (item === undefined) continue;
      yield from === 0
        ? { start: item.start, end: item.end, key }
        : { start: item.start + 1 + from, end: item.end - 1, key };
    }
}
