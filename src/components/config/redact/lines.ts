import { basename, dirname } from 'node:path/posix';
import { isContainerOfSecrets, suspicionOf } from './key-words.ts';
import { placeholder, redacted } from './placeholder.ts';
import { redactQuoted, redactRandomWords, redactSetting, redactText, type Redaction } from './text.ts';

/** `key = value`, `key: value`, `"key" => value`, with an optional `export`, comment sign or list dash before. */
const settingLine =
  /^(\s*(?:[#;]+\s*|\/\/\s*|[-*]\s+)?(?:export\s+|set\s+|setx\s+|const\s+|let\s+|var\s+|ENV\s+|ARG\s+)?["']?)([A-Za-z_][\w.\- ]{0,80}?)(["']?\s*(?:=>|:=|=|:(?=\s|["']))\s*)(\S.*?)([,;]?\s*)$/;
/** `key value`, as in redis.conf, Dockerfiles and .netrc. */
const spacedLine = /^(\s*(?:#\s*)?(?:(?:ENV|ARG|set)\s+)?)([A-Za-z_][\w.-]*)(\s+)(\S.*?)(\s*)$/;
/** `<add key="ApiKey" value="x"/>` */
const namedElement =
  /(<[^<>]*\b(?:key|name)\s*=\s*["'])([\w.:-]+)(["'][^<>]*?\bvalue\s*=\s*["'])([^"'<>]*)/gi;
const element = /<([A-Za-z_][\w.-]{0,80})((?:\s[^<>]*)?)>([^<>]+)<\/\1>/g;

/** In a command the value ends where the next word begins. */
const alreadyRedacted = /^["']?\[redacted\]["']?(?:\s|$)/;

/** Rules for one line of a file without a known structure; also for comments. */
export function redactLine(line: string, redaction: Redaction, isShell = false): string {
  const known = redactText(
    line
      .replace(element, (whole, key: string, rest: string, value: string) =>
        suspicionOf(key) === 'none'
          ? whole
          : `<${key}${rest}>${redactSetting(key, value, redaction)}</${key}>`,
      )
      .replace(namedElement, (_, before: string, key: string, between: string, value: string) => {
        const shown = suspicionOf(key) === 'none' ? value : redactSetting(key, value, redaction);
        return `${before}${key}${between}${shown}`;
      }),
    redaction,
  );
  const remarked = redactRemark(known, redaction);
  const setting = settingLine.exec(remarked);
  if (setting !== null && !(isShell && alreadyRedacted.test(setting[4] ?? ''))) {
    const [, before = '', key = '', between = '', value = '', after = ''] = setting;
    return `${before}${key}${between}${redactLineValue(key, value, redaction)}${after}`;
  }
  const acl = /^(\s*user\s+\S+\s)(.*)$/.exec(remarked);
  if (acl !== null) return `${acl[1] ?? ''}${redactAclRules(acl[2] ?? '', redaction)}`;
  const spaced = spacedLine.exec(remarked);
  if (spaced !== null) {
    const [, before = '', key = '', between = '', value = '', after = ''] = spaced;
    // Prose has key words too: without a sign between them only one word can be a value.
    if (suspicionOf(key) === 'always' && /^(?:\S+|"[^"]*"|'[^']*')$/.test(value) && !/^[=:]/.test(value))
      return `${before}${key}${between}${redactQuoted(key, value, redaction)}${after}`;
  }
  return redactRandomWords(redactNetrc(remarked, redaction), redaction);
}

/** A value as far as it goes: before a remark, in a list, after the type that code gives it; otherwise all of it. */
function redactLineValue(key: string, value: string, redaction: Redaction): string {
  const [, literal, rest = ''] =
    /^("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(\s*[,;)\]}].*|\s+(?:#|\/\/|\/\*).*)$/.exec(value) ?? [];
  if (literal !== undefined) return redactQuoted(key, literal, redaction) + redactText(rest, redaction);
  if (/^\[\s*["'].*["'],?\s*\]$/.test(value))
    return value.replace(/"(?:[^"\\]|\\.)*"|'[^']*'/g, (item) => redactQuoted(key, item, redaction));
  const [, type, typed = ''] = /^([A-Za-z][\w.[\]]*\s*=\s*)(["'].*)$/.exec(value) ?? [];
  if (type !== undefined) return type + redactLineValue(key, typed, redaction);
  return redactQuoted(key, value, redaction);
}

/** `password: x` in the midst of a remark, where x is plainly no word. */
function redactRemark(line: string, redaction: Redaction): string {
  return line.replace(
    /(?<![\w.-])([A-Za-z_][\w-]*)(:\s+)([^\s,;]+)/g,
    (whole, key: string, between: string, raw: string) =>
      suspicionOf(key) === 'always' && /[^A-Za-z.]/.test(raw) && !/^[\["'{(]/.test(raw)
        ? `${key}${between}${redactSetting(key, raw, redaction)}`
        : whole,
  );
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

/** Certificates and public keys look random, and are no secrets. */
const publicBlockPattern = /^\s*-----BEGIN (?!.*PRIVATE)[A-Z0-9 ]+-----\s*$/;

/** Files whose lines are commands, with words after a value. */
const commandFilePattern =
  /\.(?:sh|bash|zsh)$|^(?:\.?(?:bashrc|zshrc|profile)|crontab|Dockerfile.*|Containerfile|Makefile|Justfile)$/i;

/** Files of no known structure, line by line; private key blocks go first, as they span lines. */
export function redactLines(name: string, text: string, redaction: Redaction): string {
  const trimmed = text.trim();
  if (isSecretFile(name) && trimmed !== '' && !/[\n=:]/.test(trimmed.replace(/^https?:/, '')))
    return text.replace(trimmed, () => redacted(trimmed, redaction.found));
  const withoutBlocks = redactBlocks(redactText(text, redaction), redaction);
  const isShell = text.startsWith('#!') || commandFilePattern.test(basename(name));
  const redactOne = /pgpass/.test(basename(name))
    ? redactPgpass
    : basename(name) === 'userlist.txt'
      ? redactUserList
      : (line: string): string => redactLine(line, redaction, isShell);
  let section = '';
  let isPublic = false;
  return withoutBlocks
    .split('\n')
    .map((line) => {
      // A block that was cut off ends where something else than base64 stands.
      isPublic = publicBlockPattern.test(line) || (isPublic && /^[A-Za-z0-9+/=\s]+$/.test(line));
      if (isPublic) return line;
      section = /^\s*\[+([^[\]]+)\]+\s*$/.exec(line)?.[1] ?? section;
      return redactOne(inSection(section, line, redaction), redaction);
    })
    .join('\n');
}

/** Values over several lines: `key = """…"""` of TOML and Python, and block scalars of YAML that does not parse. */
function redactBlocks(text: string, redaction: Redaction): string {
  return text
    .replace(
      /^([ \t]*["']?([A-Za-z_][\w.-]*)["']?[ \t]*[=:][ \t]*)("""|''')([\s\S]*?)\3/gm,
      (whole, before: string, key: string, quote: string, value: string) =>
        suspicionOf(key) === 'none'
          ? whole
          : `${before}${quote}${redactSetting(key, value, redaction)}${quote}`,
    )
    .replace(
      /^(([ \t]*)(?:- )?["']?([A-Za-z_][\w.-]*)["']?:[ \t]*)[|>][-+\d]*[ \t]*\n((?:\2[ \t]+\S.*(?:\n|$)|[ \t]*\n)+)/gm,
      (whole, before: string, _indent: string, key: string, value: string) => {
        if (suspicionOf(key) === 'none' || redactSetting(key, value.trim(), redaction) !== placeholder)
          return whole;
        for (const line of value.split('\n')) redacted(line.trim(), redaction.found);
        return `${before}"${placeholder}"\n`;
      },
    );
}

/** Below `[passwords]` or `[api_keys]` of INI and TOML every setting is one. */
function inSection(section: string, line: string, redaction: Redaction): string {
  const name = section.split('.').at(-1)?.trim() ?? '';
  if (!isContainerOfSecrets.byName(name)) return line;
  return line.replace(
    /^(\s*["']?([\w.-]+)["']?\s*[=:]\s*)(\S.*?)(\s*)$/,
    (whole, before: string, key: string, raw: string, after: string) =>
      isContainerOfSecrets.describes(key)
        ? whole
        : `${before}${redactQuoted('password', raw, redaction)}${after}`,
  );
}

/** `"user" "password"` (pgbouncer, "auth_file"). */
function redactUserList(line: string, redaction: Redaction): string {
  return line.replace(/^("[^"]*"\s+)("(?:[^"]|"")*")/, (_, user: string, raw: string) => {
    return `${user}${redactQuoted('password', raw, redaction)}`;
  });
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
