import { isContainerOfSecrets, suspicionOf } from '../../../model/secret-names.ts';
import { isPlainWords } from './known.ts';
import { redactLines } from './lines.ts';
import { quotedLists } from './lists.ts';
import { looksRandom } from './patterns.ts';
import { placeholder, redacted } from './placeholder.ts';
import { redactJson } from './structured.ts';
import { redactQuoted, redactText, type Redaction } from './text.ts';

/** One line of a log: what the logger puts before a message, and the message with its indent. */
interface LogLine {
  readonly prefix: string;
  message: string;
}

const levels =
  'trace|debug|info|notice|log|warn(?:ing)?|error|fatal|panic|critical|detail|hint|statement|context|query';
/** What loggers put before a message, each at the start of what is left. */
const prefixParts: readonly RegExp[] = [
  // Compose: `api-1  | `
  /^[\w.-]{1,80}\s{0,40}\| ?/,
  // `2026-11-24T03:00:00.123Z `, `[2026/11/24 03:00:00] `
  /^\s{0,9}[[(]?\d{4}[-/]\d\d[-/]\d\d(?:[T ]| - )\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?\s?(?:Z|[+-]\d\d:?\d\d|[A-Z]{3,4}(?=\s))?[\])]?\s?/,
  /^\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\s/,
  // syslog and the journal: `Nov 24 03:00:00 box unit[1]: `
  /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]{1,80} [\w.@/-]{1,80}(?:\[\d{1,9}\])?: ?/,
  /^[\w.-]{1,80} [\w.@/-]{1,80}\[\d{1,9}\]: ?/,
  // Redis and its MONITOR
  /^\d{1,9}:[A-Z] \d\d [A-Z][a-z]{2} \d{4} [\d:.]{8,15} [*#.-] ?/,
  /^\d{10}\.\d{1,9} \[\d{1,4} [^\]\s]{1,80}\] ?/,
  /^\[\d{1,9}\] ?/,
  /^\d{1,9}#\d{1,9}: ?(?:\*\d{1,12} ?)?/,
  new RegExp(String.raw`^(?:\[(?:${levels})\]\s?|(?:${levels})\b\s{0,9}[:|] ?)`, 'i'),
  /^[|*#-] /,
];
/** Longer than any that a logger makes. */
const prefixPartsMax = 12;

function logLine(line: string): LogLine {
  let at = 0;
  for (let count = 0; count < prefixPartsMax; count++) {
    const rest = line.slice(at, at + 400);
    const length = prefixParts.map((part) => part.exec(rest)?.[0].length ?? 0).find((each) => each > 0);
    if (length === undefined) break;
    at += length;
  }
  return { prefix: line.slice(0, at), message: line.slice(at) };
}

/**
 * Redacts the log of a server: each message without what its logger puts before it, secrets that go over several
 * lines, and known ones that a line break divides. It keeps every line.
 */
export function redactLog(text: string, outer: Redaction): string {
  const redaction: Redaction = { ...outer, found: new Set(), dialect: 'log' };
  const lines = text.split('\n').map(logLine);
  // While what marks the blocks is there still.
  hideKeyBlocks(lines, redaction);
  hideYamlBlocks(lines, redaction);
  hideAnswers(lines, redaction);
  hideDivided(lines, redaction);
  for (const line of lines) line.message = redactMessage(line.message, redaction);
  hideByLines(lines, redaction);
  // A word that a log has beside "password" is often no more than a word.
  for (const secret of redaction.found) if (!isProse(secret)) outer.found.add(secret);
  return lines.map(({ prefix, message }) => redactText(prefix, redaction) + message).join('\n');
}

const isProse = (text: string): boolean => isPlainWords(text) || !/[\d\W]/.test(text);

/** Known secrets whose first part ends one line and whose second begins the next. */
function hideDivided(lines: readonly LogLine[], { known }: Redaction): void {
  const parts = lines.map(({ message }) => {
    const start = message.length - message.trimStart().length;
    return { start, text: message.slice(start).replace(/[\s\\]+$/, '') };
  });
  let [at, index] = [0, 0];
  const cuts: [number, number, number][] = [];
  for (const [from, to] of known.find(parts.map((part) => part.text).join(''))) {
    while (at + (parts[index]?.text.length ?? 0) <= from) at += parts[index++]?.text.length ?? 0;
    let [base, line] = [at, index];
    while (base < to && line < parts.length) {
      const length = parts[line]?.text.length ?? 0;
      const [begin, end] = [Math.max(from - base, 0), Math.min(to - base, length)];
      if (end > begin) cuts.push([line, begin, end]);
      base += length;
      line += 1;
    }
  }
  for (const [line, begin, end] of cuts.reverse()) {
    const [found, start] = [lines[line], parts[line]?.start ?? 0];
    if (found !== undefined)
      found.message = found.message.slice(0, start + begin) + placeholder + found.message.slice(start + end);
  }
}

const keyBegin =
  /-----BEGIN (?:[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?|AGE ENCRYPTED FILE|OpenVPN Static key V1)-----/;
const keyEnd = /-----END (?:[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?|AGE ENCRYPTED FILE|OpenVPN Static key V1)-----/;
/** A line within a key: base64, its headers, or nothing. */
const keyBody = /^(?:[A-Za-z0-9+/=]*|[\w-]{1,30}:.*)$/;

/** Of a whole line of a key; logs have shorter words alone on a line. */
const keyLineMin = 20;

const textAt = (lines: readonly LogLine[], at: number): string => lines[at]?.message.trim() ?? ' ';

/** Private keys line by line, also when the beginning or the end of one is not there. */
function hideKeyBlocks(lines: readonly LogLine[], redaction: Redaction): void {
  for (let i = 0; i < lines.length; i++) {
    const [line, begin] = [lines[i], keyBegin.exec(lines[i]?.message ?? '')];
    if (line === undefined || (begin === null && !keyEnd.test(line.message))) continue;
    if (begin === null) {
      hide(line, redaction);
      // Only the last line of a key is short.
      for (let j = i - 1; keyBody.test(textAt(lines, j)); j--) {
        if (j < i - 1 && textAt(lines, j).length < keyLineMin) break;
        hide(lines[j], redaction);
      }
      continue;
    }
    if (keyEnd.test(line.message)) continue;
    line.message = line.message.slice(0, begin.index) + placeholder;
    while (i + 1 < lines.length) {
      const next = lines[i + 1];
      const isEnd = keyEnd.test(next?.message ?? '');
      if (!isEnd && !keyBody.test(next?.message.trim() ?? '')) break;
      hide(next, redaction);
      i += 1;
      if (isEnd) break;
    }
  }
}

/** All of a message but its indent. */
function hide(line: LogLine | undefined, redaction: Redaction): void {
  const text = line?.message.trim() ?? '';
  if (line === undefined || text === '') return;
  line.message =
    line.message.slice(0, line.message.length - line.message.trimStart().length) +
    redacted(text, redaction.found);
}

/** `private_key: |` and the lines that are further in; and the entries below `passwords:`. */
function hideYamlBlocks(lines: readonly LogLine[], redaction: Redaction): void {
  for (let i = 0; i < lines.length; i++) {
    const [, indent = '', key = '', mark = ''] =
      /^(\s*)(?:- )?["']?([\w.-]{1,80})["']?:\s*([|>][-+\d]{0,3})?\s*$/.exec(lines[i]?.message ?? '') ?? [];
    const isText = mark !== '' && suspicionOf(key) !== 'none';
    if (key === '' || !(isText || (mark === '' && isContainerOfSecrets.byName(key)))) continue;
    for (let next = lines[i + 1]; next !== undefined; next = lines[i + 1]) {
      if (!/^\s+\S/.test(next.message.slice(indent.length))) break;
      if (isText) hide(next, redaction);
      else hideEntry(next, redaction);
      i += 1;
    }
  }
}

/** `alice: x` or `- x` below the name of a map or list of secrets. */
function hideEntry(line: LogLine, redaction: Redaction): void {
  const [head, name] =
    /^\s*(?:- )?(?:["']?([\w.@-]{1,80})["']?:\s+|(?<=- ))(?=[^\s|>])/.exec(line.message) ?? [];
  if (head === undefined || (name !== undefined && isContainerOfSecrets.describes(name))) return;
  const value = line.message.slice(head.length).trimEnd();
  line.message = head + redactQuoted('password', value, redaction);
}

/** `Use this password to log in:` and a word alone in one of the next lines. */
function hideAnswers(lines: readonly LogLine[], redaction: Redaction): void {
  for (const [i, { message }] of lines.entries()) {
    if (!/\b(?:password|passphrase|secret|token|key)\b[^:]{0,80}:\s*$/i.test(message)) continue;
    const next = lines.slice(i + 1, i + 4).find((line) => line.message.trim() !== '');
    if (next !== undefined && /^\S{6,}$/.test(next.message.trim()) && isNoWord(next.message.trim()))
      hide(next, redaction);
  }
}

/** Has digits among letters, or signs that words do not have. */
const isNoWord = (text: string): boolean =>
  /\d/.test(text) ? /[^\d.,:/-]/.test(text) : /[^\w.,:;!?'"()/-]|\w[!?]\w/.test(text);

function redactMessage(message: string, redaction: Redaction): string {
  const json = redactJsonEnd(message, redaction);
  return redactTold(
    redactCookies(redactAuth(redactQueries(json, redaction), redaction), redaction),
    redaction,
  );
}

/** Where a document may begin in a message; more are not tried. */
const jsonStartsMax = 3;

/** A message that is JSON, or ends in it: `settings {"passwords": …}`. */
function redactJsonEnd(message: string, redaction: Redaction): string {
  if (!/[}\]]\s*$/.test(message)) return message;
  let tried = 0;
  for (const { index } of message.matchAll(/[{[]/g)) {
    const json = redactJson(message.slice(index), redaction);
    if (json !== undefined) return message.slice(0, index) + json;
    tried += 1;
    if (tried === jsonStartsMax) break;
  }
  return message;
}

/** `"AUTH" "user" "x"`, as MONITOR of Redis shows commands. */
function redactAuth(text: string, redaction: Redaction): string {
  let [result, position] = ['', 0];
  for (const items of quotedLists(text)) {
    const first = items[0]?.text.toLowerCase() ?? '';
    const at = items.findIndex((item, i) =>
      i === 0 || /^(?:hello|migrate)$/.test(first) ? /^auth2?$/i.test(item.text) : /^AUTH2?$/.test(item.text),
    );
    if (at < 0) continue;
    const item =
      first === 'migrate'
        ? items[at + (/2/.test(items[at]?.text ?? '') ? 2 : 1)]
        : (items[at + 2] ?? items[at + 1]);
    if (item === undefined) continue;
    result +=
      text.slice(position, item.start) +
      redactQuoted('password', text.slice(item.start, item.end), redaction);
    position = item.end;
  }
  return result + text.slice(position);
}

const timestamp = /^\d{4}-\d\d-\d\dT[\d:.]{5,15}(?:Z|[+-]\d\d(?::?\d\d)?)?$/;
const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Parameters of addresses that let in whoever has them. */
const passingParameter = /^(?:code|state|nonce|ticket|sid|sess\w*|otp|hash|assertion|saml\w*|relaystate)$/i;

/** Parameters in the addresses of requests: by their names, and what is neither a word nor a number nor an id. */
const redactQueries = (text: string, redaction: Redaction): string =>
  text.replace(
    /([?&;])([\w.[\]-]{1,80})=([^\s&;"'<>#]{1,4000})/g,
    (whole, mark: string, key: string, value: string) => {
      const passes =
        (passingParameter.test(key) && value.length >= 4 && !/^[\d.]+$/.test(value)) ||
        (suspicionOf(key) !== 'none' && isNoWord(value));
      const isToken =
        /^[\w~%+-]{8,}$/.test(value) && isNoWord(value) && !uuid.test(value) && !/^v?\d+[-\d]*$/.test(value);
      const isOdd = isToken && /\d.*[A-Za-z].*\d|[A-Za-z].*\d.*[A-Za-z]/.test(value);
      return passes || isOdd ? `${mark}${key}=${redacted(value, redaction.found)}` : whole;
    },
  );

/** Values of `Cookie:` and `Set-Cookie:`, but for plain words. */
const redactCookies = (text: string, redaction: Redaction): string =>
  text.replace(
    /(\b(?:set-)?cookie["']?\s{0,3}[:=]\s{0,3}["']?)([^\s=;"']{1,100}=[^\r\n"']{1,8000})/gi,
    (_, before: string, pairs: string) =>
      before +
      pairs.replace(/([^\s=;]{1,100})=([^;\s]{1,4000})/g, (whole, name: string, value: string) =>
        /^(?:path|domain|expires|max-age|samesite|version)$/i.test(name) || /^[A-Za-z]{1,24}$/.test(value)
          ? whole
          : `${name}=${redacted(value, redaction.found)}`,
      ),
  );

/** A name, what is between it and its value, and where the value begins. */
const told =
  /(?<![\w.$-])([A-Za-z_][\w.-]{0,80})["')\]]{0,2}(\s{0,3}(?:=>|->|:=|=|:)|\s{1,3}(?:is|was|(?:is\s+)?(?:set|changed)\s+to|is\s+now)\b|(?=\s))\s{0,3}:?\s{0,3}(?=\S)/gi;
const toldValue = /\$\{[^{}\n]{1,400}\}|"[^"\n]{1,400}"|'[^'\n]{1,400}'|[^\s,;"'()[\]{}]{1,400}/y;
/** With some words between: `Password for the user elastic: x`. */
const toldOf =
  /(\b(?:(?:password|passphrase|passcode|secret|token|api.?key)(?:\s+[\w"'().@-]{1,60}){1,5}|(?:access|login|recovery|verification)\s+code)\s{0,3}(?::|=|\bis(?:\s+now)?:?)\s{1,3})([^\s,;"'()[\]{}]{6,400})/gi;
/** `host:port:database:user:password` */
const pgpass = /^((?:[\w.*-]|\\:){1,200}:(?:\d{2,5}|\*):[\w.*-]{1,100}:[\w.*-]{1,100}:)(\S{1,400})$/;

/** What clients say to mail, file and Redis servers: `PASS x`, `LOGIN alice x`, `AUTH x`, `AUTH alice x`. */
const spoken = /(\b(?:PASS|AUTH)\s{1,3}|\b(?:LOGIN|AUTH)\s{1,3}\S{1,100}\s{1,3})(\S{1,400})(?=\s*$)/;

/** The values that PostgreSQL logs beside a statement. */
const boundValues = /\bparameters: \$1 = .*/;

/** `parameters: $1 = 'x'`: nothing names what a value is, so what is no word, number or id is taken for a secret. */
const redactBound = (text: string, redaction: Redaction): string =>
  text.replace(boundValues, (values) =>
    values.replace(/(\$\d{1,5} = ')([^'\s]{6,4000})(?=')/g, (whole, before: string, value: string) =>
      isNoWord(value) && !uuid.test(value) && !timestamp.test(value) && !value.includes(placeholder)
        ? before + redacted(value, redaction.found)
        : whole,
    ),
  );

/** What a sentence says of a secret: `SECRET is x`, `token set to 'x'`. */
function redactTold(text: string, redaction: Redaction): string {
  return redactBound(redactNamed(text, redaction), redaction)
    .replace(spoken, (whole, before: string, value: string) =>
      isNoWord(value) && !value.includes(placeholder) ? before + redacted(value, redaction.found) : whole,
    )
    .replace(pgpass, (_, before: string, value: string) => before + redacted(value, redaction.found))
    .replace(toldOf, (whole, before: string, value: string) =>
      /[A-Za-z]/.test(value) &&
      isNoWord(value) &&
      !/:\/\//.test(value) &&
      !uuid.test(value) &&
      !value.includes(placeholder)
        ? before + redacted(value, redaction.found)
        : whole,
    );
}

/** With nothing but a blank before it: `token "x1"`, `api_key abc123…`. */
const isPlainlyToken = (name: string, value: string, isQuoted: boolean): boolean =>
  isQuoted
    ? isNoWord(value)
    : suspicionOf(name) === 'always' && /^\w{12,}$/.test(value) && /\d/.test(value) && /[a-z]/i.test(value);

function redactNamed(text: string, redaction: Redaction): string {
  let [result, position] = ['', 0];
  for (const { 0: head, 1: name = '', 2: sign = '', index } of text.matchAll(told)) {
    if (index < position || suspicionOf(name) === 'none') continue;
    toldValue.lastIndex = index + head.length;
    const raw = toldValue.exec(text)?.[0] ?? '';
    const value = raw.replace(/^["']|["']$/g, '');
    const isQuoted = value !== raw;
    const isValue = sign === '' ? isPlainlyToken(name, value, isQuoted) : isQuoted || isNoWord(value);
    if (value.startsWith(placeholder) || !isValue) continue;
    result += text.slice(position, index + head.length) + redactQuoted(name, raw, redaction);
    position = index + head.length + raw.length;
  }
  return result + text.slice(position);
}

/** The rules for files of no known structure, as far as they leave the lines what they are. */
function hideByLines(lines: readonly LogLine[], redaction: Redaction): void {
  const together = redactLines('', lines.map(({ message }) => message).join('\n'), redaction).split('\n');
  const fits = together.length === lines.length;
  for (const [i, line] of lines.entries())
    line.message = fits ? (together[i] ?? '') : redactLines('', line.message, redaction);
}

/** Redacts a JSON document of ours, whose texts may quote anything: every one of them as a log. */
export function redactReport(text: string, redaction: Redaction): string {
  const each = (value: unknown): unknown => {
    if (typeof value === 'string') return looksRandom(value) ? value : redactLog(value, redaction);
    if (Array.isArray(value)) return value.map(each);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [redactText(key, redaction), each(inner)]),
    );
  };
  const shown = JSON.stringify(each(JSON.parse(text)), null, 2);
  return redactJson(shown, redaction) ?? shown;
}
