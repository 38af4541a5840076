import { isContainerOfSecrets, namePattern, suspicionOf } from '../../../model/secret-names.ts';
import { isSecretFile, lineRuleFor, privateLines, redactSecretLine } from './credential-files.ts';
import { redactCalls } from './calls.ts';
import { placeholder, redacted } from './placeholder.ts';
import { isLookup, looksUp } from './references.ts';
import { isShell } from './syntax.ts';
import { redactQuoted, redactRandomWords, redactSetting, redactText, type Redaction } from './text.ts';

const name = namePattern;
/** `key = value`, `key: value`, `"key" => value`, with an optional `export`, comment sign or list dash before. */
const settingLine = new RegExp(
  String.raw`^(\s*(?:[#;]+\s*|\/\/\s*|[-*]\s+)?(?:(?:export|set|setx|const|let|var|local|readonly|declare|final|ENV|ARG)\s+)?["']?)([\p{L}_][\p{L}\p{M}\p{N}_.\- ]{0,80}?)(["']?\s*(?:=>|:=|\?=|\+=|=(?!=)|::?(?=\s|["']))\s*)(?=\S)`,
  'u',
);
/** `key value`, as in redis.conf, Dockerfiles and .netrc; `set $key value` of nginx. */
const spacedLine = new RegExp(
  String.raw`^(\s*(?:#\s*)?(?:(?:ENV|ARG|set|setenv|option)\s+\$?)?)(${name})(\s+(?:--?[a-z]+\s+)?)(?=\S)`,
  'u',
);
/** `<key>password</key><string>x</string>`, `<Password><Value>x</Value>` */
const elementAfter =
  /(<(?:key>([\w.-]{1,80})<\/key>\s{0,9}<string|([A-Za-z_][\w.-]{0,80})>\s{0,9}<[vV]alue)>)([^<>]+)(?=<)/g;
/** `<add key="ApiKey" value="x"/>` */
const namedElement =
  /(<[^<>]{0,200}\b(?:key|name)\s{0,9}=\s{0,9}["'])([\w.:-]{1,80})(["'][^<>]{0,200}?\bvalue\s{0,9}=\s{0,9}["'])([^"'<>]*)/gi;
/** `<entry key="smtp.password">x</entry>` */
const keyedElement =
  /(<[A-Za-z][^<>]{0,200}\b(?:key|name)\s{0,9}=\s{0,9}["']([\w.:-]{1,80})["'][^<>]{0,200}>)([^<>]+)(?=<\/)/g;
const element =
  /(<([A-Za-z_][\w.-]{0,80})(?:\s[^<>]*)?>\s{0,9}(?:<!\[CDATA\[)?)([^<>]+?)(?=(?:\]\]>)?\s{0,9}<\/\2>)/g;

/** In a command the value ends where the next word begins. */
const alreadyRedacted = /^["']?\[redacted\]["']?(?:\s|$)/;

/** Rules for one line of a file without a known structure; also for comments. */
export function redactLine(line: string, redaction: Redaction, isCommand = false): string {
  const known = redactText(
    line
      .replace(element, (whole, before: string, key: string, value: string) =>
        suspicionOf(key) === 'none' ? whole : `${before}${redactSetting(key, value, redaction)}`,
      )
      .replace(elementAfter, (whole, before: string, label = '', parent = '', value = '') => {
        const key = String(label) + String(parent);
        return suspicionOf(key) === 'none'
          ? whole
          : `${before}${redactSetting(key, String(value), redaction)}`;
      })
      .replace(keyedElement, (whole, before: string, key: string, value: string) =>
        suspicionOf(key) === 'none' ? whole : `${before}${redactSetting(key, value, redaction)}`,
      )
      .replace(namedElement, (_, before: string, key: string, between: string, value: string) => {
        const shown = suspicionOf(key) === 'none' ? value : redactSetting(key, value, redaction);
        return `${before}${key}${between}${shown}`;
      }),
    redaction,
  );
  const remarked = redactRemark(redactCalls(known, redaction), redaction);
  // What follows the value is no part of it: `,` and `;` of code and nginx, and blanks.
  const body = remarked.trimEnd().replace(/[,;]$/, '').trimEnd();
  const after = remarked.slice(body.length);
  const setting = settingIn(body, isCommand);
  const value = body.slice(setting?.[0].length);
  if (
    setting !== null &&
    !(isCommand && alreadyRedacted.test(value)) &&
    !isSentence(setting[2] ?? '', value, redaction)
  )
    return `${setting[0]}${redactLineValue(setting[2] ?? '', value, redaction)}${after}`;
  const acl = /^(\s*user\s+\S+\s)(?=.*(?:\s|^)["']?[><#!~&+-])/.exec(body);
  if (acl !== null) return acl[0] + redactAclRules(body.slice(acl[0].length), redaction) + after;
  const directive = redactDirective(body, redaction);
  if (directive !== undefined) return directive + after;
  const spaced = redactSpaced(body, redaction) ?? (isCommand ? undefined : redactParameter(body, redaction));
  if (spaced !== undefined) return spaced + after;
  return redactRandomWords(redactLogin(remarked, redaction), redaction);
}

/** `auth: backend is ready in 12 ms` in a log; what is a password there goes all the same. */
const isSentence = (key: string, value: string, { dialect }: Redaction): boolean =>
  dialect === 'log' &&
  /^[^\s"'[{]+\s\S/.test(value) &&
  // `secret not found: using default`
  (suspicionOf(key) === 'likely' || (/\s\S+\s/.test(key) && /^[a-z]+(?:\s[a-z]+)*$/.test(value)));

/** The words of a command before a `=` are no name, and an option is in no name. */
function settingIn(body: string, isCommand: boolean): RegExpExecArray | null {
  const setting = settingLine.exec(body);
  // `key not found in cache: user:42`
  const words = (setting?.[2] ?? '').split(' ');
  if (
    words.length > 2 &&
    suspicionOf(words.join(' ')) === 'likely' &&
    suspicionOf(words.slice(-2).join(' ')) === 'none'
  )
    return null;
  return (isCommand ? /\s/ : /\s-/).test(setting?.[2] ?? '') ? null : setting;
}

/** `requirepass x`, `set $token "x"`. Prose has key words too: without a sign between them only one word can be a value. */
function redactSpaced(body: string, redaction: Redaction): string | undefined {
  const spaced = spacedLine.exec(body);
  if (spaced === null) return undefined;
  const [head, before = '', key = ''] = spaced;
  const value = body.slice(head.length);
  const isToken = /\b(?:set|option)\s/.test(before) || isLongToken(value);
  const isSecret = suspicionOf(key) === 'always' || (isToken && suspicionOf(key) === 'likely');
  const isOneWord =
    /^(?:\S+|"[^"]*"|'[^']*')$/.test(value) &&
    !/^[=:]/.test(value) &&
    (isDirective(key) || !isWordOfLog(value, redaction));
  const [, first, rest] = /^(\S+)(\s.*)$/.exec(value) ?? [];
  // `rocommunity public 10.0.0.0/8`
  if (first !== undefined && /community6?$/.test(key))
    return `${head}${redactQuoted(key, first, redaction)}${rest ?? ''}`;
  return isSecret && isOneWord ? `${head}${redactQuoted(key, value, redaction)}` : undefined;
}

/** `SetEnv DB_PASSWORD x`, `fastcgi_param APP_SECRET x`: a directive that sets a variable. */
function redactParameter(body: string, redaction: Redaction): string | undefined {
  const [head, key = ''] =
    /^\s*[A-Za-z]\w{1,40}\s+["']?([A-Z][A-Z0-9]{0,40}(?:_[A-Z0-9]{1,40}){1,6})["']?\s+(?=\S)/.exec(body) ??
    [];
  if (head === undefined || suspicionOf(key) !== 'always') return undefined;
  const value = body.slice(head.length);
  const isOneWord = /^(?:[^\s=:]\S*|"[^"]*"|'[^']*')$/.test(value) && !/^[A-Z][A-Z0-9_]*$/.test(value);
  return isOneWord && !isWordOfLog(value, redaction)
    ? `${head}${redactQuoted(key, value, redaction)}`
    : undefined;
}

/** `requirepass`, `bindpw`: no sentence has such a word. */
const isDirective = (key: string): boolean =>
  suspicionOf(key) === 'always' &&
  /^(?!(?:pass(?:word|wd|phrase|code)?|pwd|secret|cred(?:ential)?)s?$)[a-z]+$/.test(key);

const isLongToken = (value: string): boolean => /^(?!0x)(?=.*\d)(?=.*[a-z])[\w-]{16,}$/i.test(value);

/** Directives whose secret is not the first word after their name. */
const directives: readonly RegExp[] = [
  /^(\s*sentinel\s+(?:auth-pass|config\s+set\s+\S*pass\S*)\s+\S+\s+)(\S.*)$/i,
  /^(\s*rename-command\s+\S+\s+)((?!""|'')\S+)$/i,
  /^(\s*(?:stats\s+auth|auth|http-request\s+auth)\s+[^\s:/]+:)([^\s/]\S*)$/i,
  /^(\s*Private-MAC:\s+)(\S+)$/,
  /^(\s*user\s+\S+\s+(?:insecure-)?password\s+)("[^"]*"|\S+)/i,
  // `dns cloudflare TOKEN` of Caddy
  /^(\s*(?:acme_)?dns\s+[a-z]\w*\s+)([^\s{]{8,})$/,
  // Answers to the questions of Debian's installer
  /^(\s*[\w-]+\s+[\w-]+\/\S+\s+password\s+)(\S+)$/,
  /^(\s*snmp-server\s+community\s+)(\S+)/,
  // `MONITOR ups@host 1 user PASSWORD primary` of NUT
  /^(\s*MONITOR\s+\S+@\S+\s+\d+\s+\S+\s+)(\S+)/,
  /^(\s*secure_link_md5\s+"?[^"]*\s)([^\s"$]+)/,
];

function redactDirective(body: string, redaction: Redaction): string | undefined {
  for (const pattern of directives) {
    const [whole, before = '', raw = ''] = pattern.exec(body) ?? [];
    if (whole !== undefined)
      return before + redactQuoted('password', raw, redaction) + body.slice(before.length + raw.length);
  }
  return undefined;
}

/** A value as far as it goes: before a remark, in a list, after the type that code gives it; otherwise all of it. */
function redactLineValue(key: string, value: string, redaction: Redaction): string {
  const [, literal, rest = ''] =
    /^((?:[bBrRuUfFeE]{1,2})?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))(\s*[,;)\]}].*|\s+(?:#|\/\/|\/\*).*)$/.exec(
      value,
    ) ?? [];
  if (literal !== undefined) return redactQuoted(key, literal, redaction) + redactText(rest, redaction);
  if (/^\[\s*["']/.test(value) && /["'],?\s*\]$/.test(value))
    return value.replace(/"(?:[^"\\]|\\.)*"|'[^']*'/g, (item) => redactQuoted(key, item, redaction));
  const [type] = /^[A-Za-z][\w.[\]]{0,80}\s*=\s*(?=["'])/.exec(value) ?? [];
  if (type !== undefined) return type + redactLineValue(key, value.slice(type.length), redaction);
  if (redaction.dialect === 'code' && suspicionOf(key) !== 'none' && !isLookup(value) && isComputed(value))
    return redactArguments(key, value, redaction);
  // `credentials = { password: 'x', user: 'app' }`: the names inside judge better.
  if (/^\{\s*["']?[\w-]+["']?\s*[:=]/.test(value)) {
    const shown = redactText(value, redaction);
    if (shown.includes(placeholder) || suspicionOf(key) === 'likely') return shown;
  }
  return redactQuoted(key, value, redaction);
}

/** Starts with a name, not with a quote, and has a text further on. */
const isComputed = (value: string): boolean =>
  isCall.test(value) || /^[A-Za-z_$(][^"']*["']/.test(value.replace(/^[bBrRuUfF]{1,2}(?=["'])/, '"'));
const isCall = /^(?:await\s+|new\s+)?[A-Za-z_$][\w$.:>-]{0,80}\(/;

/** Code that computes a secret: the first text in it may be a name to look up, the others are values. */
function redactArguments(key: string, value: string, redaction: Redaction): string {
  let isFirst = looksUp.test(isCall.exec(value)?.[0] ?? '');
  return value.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, (item) => {
    const isName = isFirst && /^["'][\w./:-]*\s?["']$/.test(item);
    isFirst = false;
    return isName ? item : redactQuoted(key, item, redaction);
  });
}

/** `password: x` in the midst of a remark, where x is plainly no word. */
function redactRemark(line: string, redaction: Redaction): string {
  return line.replace(
    /(?<![\w.-])([A-Za-z_][\w-]*)(:\s+)([^\s,;]+)/g,
    (whole, key: string, between: string, raw: string) =>
      suspicionOf(key) === 'always' &&
      /[^A-Za-z.]/.test(raw.replace(/[)\]}]{1,3}$/, '')) &&
      !/^[\["'{(]/.test(raw)
        ? `${key}${between}${redactSetting(key, raw, redaction)}`
        : whole,
  );
}

/** Redis ACL rules: `>password`, `<password`, `#sha256`, `!sha256`, also in quotes. */
function redactAclRules(rules: string, redaction: Redaction): string {
  return rules.replace(
    /(?<=^|\s)(?:(["'])([><#!])((?:[^"'\\]|\\.)+)\1|([><#!])([^\s"']\S*))/g,
    (_, quote = '', quotedSign = '', quotedSecret = '', sign = '', secret = '') =>
      `${String(quote)}${String(quotedSign)}${String(sign)}${redacted(String(quotedSecret) + String(secret), redaction.found)}${String(quote)}`,
  );
}

/** `login bob password x` of .netrc, `user "joe" password "x"` of fetchmail and others. */
function redactLogin(line: string, redaction: Redaction): string {
  const start = line.search(/(?:^|\s)(?:machine|login|default|user|username)\s+["']?[\w.@-]/);
  if (start < 0) return line;
  // `password changed for user ann`: the secret stands after the name.
  const shown = line
    .slice(start)
    .replace(
      /(\s(?:password|passwd|pass|account)\s+(?:\d\s+(?=[0-9A-F$]{8}|\[redacted\]))?)("[^"]*"|'[^']*'|[^\s"']+)/g,
      (whole, before: string, raw: string) =>
        isWordOfLog(raw, redaction) ? whole : `${before}${redactQuoted('password', raw, redaction)}`,
    );
  return line.slice(0, start) + shown;
}

/** `password authentication failed`: logs are sentences. */
const isWordOfLog = (value: string, { dialect }: Redaction): boolean =>
  dialect === 'log' && /^[A-Za-z]+[.,:;]?$/.test(value);

/** `<auth-user-pass>`, a user and a password, each on its line. */
const elementOfLines =
  /^([ \t]*<([A-Za-z_][\w.-]{0,80})>[ \t]*\r?\n)((?:[^<>\n]{0,4000}\n){1,20})(?=[ \t]*<\/\2>)/gm;
/** `variable "db_password" {` and `- name: DB_PASSWORD`, with `default = "x"` and `value: x` in one of the next lines. */
const namedBlock =
  /^([ \t]*(?:(?:variable|output)[ \t]+"|(?:-[ \t]+)?["']?(?:name|key)["']?[ \t]*[=:][ \t]*["']?))([\w.-]{1,80})(["']?,?(?:[ \t]*\{)?[ \t]*\r?\n(?:(?![ \t]*(?:-|["']?(?:name|key)\b|\}))[^\n]{0,400}\n){0,5}?[ \t]*["']?(?:value|default)["']?[ \t]*[=:][ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s"',{[][^\n]{0,400}?)(?=[ \t\r]{0,9},?[ \t\r]{0,9}$)/gm;

/** Certificates and public keys look random, and are no secrets. */
const publicBlockPattern = /^\s*-----BEGIN (?!.*PRIVATE)[A-Z0-9 ]+-----\s*$/;

/** Files of no known structure, line by line; private key blocks go first, as they span lines. */
export function redactLines(name: string, text: string, redaction: Redaction): string {
  const isCommand = isShell(name, text) || /\.sql$/i.test(name);
  const logical = isCommand ? text : redactContinued(text, redaction);
  const withoutBlocks = redactBlocks(redactText(logical, redaction), redaction);
  const ownRule = lineRuleFor(name, text) ?? (isSecretFile(name) ? redactSecretLine : undefined);
  const redactOne = (line: string): string =>
    ownRule?.(line, redaction) ?? redactLine(line, redaction, isCommand);
  const lines = withoutBlocks.split('\n');
  const result: string[] = [];
  let [section, isPublic] = ['', false];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? '';
    // A block that was cut off ends where something else than base64 stands.
    isPublic = publicBlockPattern.test(line) || (isPublic && /^[A-Za-z0-9+/=\s]+$/.test(line));
    if (isPublic) {
      result.push(line);
      continue;
    }
    section = /^\s*\[+([^[\]]+)\]+\s*$/.exec(line)?.[1] ?? section;
    const shown = redactOne(inSection(section, line, redaction));
    result.push(shown);
    for (let count = privateLines(line); count > 0 && i + 1 < lines.length; count--) {
      i += 1;
      result.push(redacted((lines[i] ?? '').trimEnd(), redaction.found));
    }
  }
  return result.join('\n');
}

/** A secret value that goes on after a backslash (java.util.Properties, "logical line") goes with all its lines. */
function redactContinued(text: string, redaction: Redaction): string {
  if (!text.includes('\\')) return text;
  const lines = text.split('\n');
  const result: string[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? '';
    const [head, , key = ''] =
      (isContinued(line) ? (settingLine.exec(line) ?? spacedLine.exec(line)) : null) ?? [];
    if (head === undefined || suspicionOf(key) !== 'always') {
      result.push(line);
      continue;
    }
    const first = i;
    while (i + 1 < lines.length && isContinued(lines[i] ?? '')) i += 1;
    const values = [line.slice(head.length), ...lines.slice(first + 1, i + 1)].map((part) => part.trim());
    for (const part of values) redacted(part.replace(/\\$/, ''), redaction.found);
    result.push(head + placeholder);
  }
  return result.join('\n');
}

/** Ends in a backslash that is not itself escaped. */
const isContinued = (line: string): boolean =>
  (/\\+$/.exec(line.trimEnd().slice(-20))?.[0].length ?? 0) % 2 === 1;

/**
 * Values over several lines: `key = """…"""` of TOML and Python, elements of XML and OpenVPN, blocks that name a
 * setting and give its value further down, and block scalars of YAML that does not parse.
 */
function redactBlocks(text: string, redaction: Redaction): string {
  return text
    .replace(
      /^([ \t]*["']?([A-Za-z_][\w.-]*)["']?[ \t]*[=:][ \t]*)("""|''')([\s\S]*?)\3/gm,
      (whole, before: string, key: string, quote: string, value: string) =>
        suspicionOf(key) === 'none'
          ? whole
          : `${before}${quote}${redactSetting(key, value, redaction)}${quote}`,
    )
    .replace(elementOfLines, (whole, before: string, key: string, value: string) =>
      suspicionOf(key) === 'none'
        ? whole
        : before +
          value.replace(/(?<=^[ \t]{0,80})[^\s#].*/gm, (line) => redactSetting(key, line, redaction)),
    )
    .replace(namedBlock, (whole, before: string, key: string, between: string, raw: string) =>
      suspicionOf(key) === 'none' ? whole : `${before}${key}${between}${redactQuoted(key, raw, redaction)}`,
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
  const body = line.trimEnd();
  const [head, key = ''] = /^\s*["']?([\w.-]{1,80})["']?\s*[=:]\s*(?=\S)/.exec(body) ?? [];
  if (head === undefined || isContainerOfSecrets.describes(key)) return line;
  return head + redactQuoted('password', body.slice(head.length), redaction) + line.slice(body.length);
}
