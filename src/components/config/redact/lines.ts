import { basename, dirname } from 'node:path/posix';
import { suspicionOf } from './key-words.ts';
import { redacted } from './placeholder.ts';
import { redactQuoted, redactSetting, redactText, type Redaction } from './text.ts';

/** `key = value`, `key: value`, `"key" => value`, with an optional `export`, comment sign or list dash before. */
const settingLine =
  /^(\s*(?:[#;]+\s*|\/\/\s*|[-*]\s+)?(?:export\s+|set\s+|setx\s+|const\s+|let\s+|var\s+|ENV\s+|ARG\s+)?["']?)([A-Za-z_][\w.\- ]{0,80}?)(["']?\s*(?:=>|:=|=|:(?=\s|["']))\s*)(\S.*?)([,;]?\s*)$/;
/** `key value`, as in redis.conf, Dockerfiles and .netrc. */
const spacedLine = /^(\s*(?:#\s*)?(?:(?:ENV|ARG|set)\s+)?)([A-Za-z_][\w.-]*)(\s+)(\S.*?)(\s*)$/;
/** `"PASSWORD": "x"` inside a line of code. */
const quotedPair = /(["'])([A-Za-z_][\w.-]*)\1(\s*(?::|=>|,)\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')/g;
/** Headers set by proxies and clients: `proxy_set_header X-Api-Key x;`, `-H 'X-Api-Key: x'`. */
const header =
  /((?:header(?:_up|_down)?|-H|--header)\s+["']?)([A-Za-z][\w-]*)(["']?\s*:?\s*["']?)([^\s"';]+)/gi;
const element = /<([A-Za-z_][\w.-]*)([^<>]*)>([^<>]+)<\/\1>/g;

/** Rules for one line of a file without a known structure; also for comments. */
export function redactLine(line: string, redaction: Redaction): string {
  const known = redactText(
    line
      .replace(element, (whole, key: string, rest: string, value: string) =>
        suspicionOf(key) === 'none'
          ? whole
          : `<${key}${rest}>${redactSetting(key, value, redaction)}</${key}>`,
      )
      .replace(quotedPair, (whole, quote: string, key: string, between: string, value: string) =>
        suspicionOf(key) === 'none'
          ? whole
          : `${quote}${key}${quote}${between}${redactQuoted(key, value, redaction)}`,
      )
      .replace(header, (whole, before: string, key: string, between: string, value: string) =>
        suspicionOf(key) !== 'always'
          ? whole
          : `${before}${key}${between}${redactSetting(key, value, redaction)}`,
      ),
    redaction,
  );
  const setting = settingLine.exec(known);
  if (setting !== null) {
    const [, before = '', key = '', between = '', value = '', after = ''] = setting;
    return `${before}${key}${between}${redactQuoted(key, value, redaction)}${after}`;
  }
  const acl = /^(\s*user\s+\S+\s)(.*)$/.exec(known);
  if (acl !== null) return `${acl[1] ?? ''}${redactAclRules(acl[2] ?? '', redaction)}`;
  const spaced = spacedLine.exec(known);
  if (spaced !== null) {
    const [, before = '', key = '', between = '', value = '', after = ''] = spaced;
    // Prose has key words too: without a sign between them only one word can be a value.
    if (suspicionOf(key) === 'always' && /^(?:\S+|"[^"]*"|'[^']*')$/.test(value) && !/^[=:]/.test(value))
      return `${before}${key}${between}${redactQuoted(key, value, redaction)}${after}`;
  }
  return redactNetrc(known, redaction);
}

/** Redis ACL rules: `>password`, `<password`, `#sha256`, `!sha256`. */
function redactAclRules(rules: string, redaction: Redaction): string {
  return rules.replace(/(?<=^|\s)([><#!])(\S+)/g, (_, sign: string, secret: string) => {
    return `${sign}${redacted(secret, redaction.found)}`;
  });
}

function redactNetrc(line: string, redaction: Redaction): string {
  if (!/(?:^|\s)(?:machine|login|default)\s/.test(line)) return line;
  return line.replace(/(\s(?:password|account)\s+)(\S+)/g, (_, before: string, secret: string) => {
    return `${before}${redacted(secret, redaction.found)}`;
  });
}

/** A file that is nothing but a secret, as Docker and Kubernetes mount them. */
function isSecretFile(name: string): boolean {
  const base = basename(name);
  const stem = base.replace(/\.(?:txt|secret|key|token|pass|pwd)$/, '');
  return (
    /(?:^|\/)\.?secrets?$/.test(dirname(name)) ||
    /\.(?:key|secret|token|pass|pwd)$/.test(base) ||
    (!/\.[a-z]+$/.test(stem) && suspicionOf(stem) !== 'none')
  );
}

/** Files of no known structure, line by line; private key blocks go first, as they span lines. */
export function redactLines(name: string, text: string, redaction: Redaction): string {
  const trimmed = text.trim();
  if (isSecretFile(name) && trimmed !== '' && !/[\n=:]/.test(trimmed.replace(/^https?:/, '')))
    return text.replace(trimmed, () => redacted(trimmed, redaction.found));
  const withoutBlocks = redactText(text, redaction);
  const pgpass = /pgpass/.test(basename(name));
  return withoutBlocks
    .split('\n')
    .map((line) => (pgpass ? redactPgpass(line, redaction) : redactLine(line, redaction)))
    .join('\n');
}

/** `host:port:database:user:password` (PostgreSQL documentation, "The Password File"). */
function redactPgpass(line: string, redaction: Redaction): string {
  return line.replace(
    /^((?!#)(?:(?:\\.|[^:\\])*:){4})(.+?)(\r?)$/,
    (_, before: string, secret: string, end: string) => {
      redaction.found.add(secret.replace(/\\(.)/g, '$1'));
      return `${before}${redacted(secret, redaction.found)}${end}`;
    },
  );
}
