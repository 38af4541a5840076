import { basename, dirname } from 'node:path/posix';
import { suspicionOf } from '../../../model/secret-names.ts';
import { placeholder, redacted } from './placeholder.ts';
import { redactQuoted, redactText, type Redaction } from './text.ts';

/** Redacts one line of a file whose form is known; undefined leaves the line to the rules for any file. */
type LineRule = (line: string, redaction: Redaction) => string | undefined;

interface CredentialFile {
  readonly matches: (base: string, text: string) => boolean;
  readonly rule: LineRule;
}

/** Everything after `before` on the line goes; blanks at its end stay. */
function hideFrom(line: string, before: number, redaction: Redaction): string {
  const secret = line.slice(before).trimEnd();
  return line.slice(0, before) + redacted(secret, redaction.found) + line.slice(before + secret.length);
}

/** One match of `pattern`, with the text before the secret and the secret, which may be quoted, as its groups. */
const hideMatch =
  (pattern: RegExp): LineRule =>
  (line, redaction) => {
    const [whole, before = '', raw = ''] = pattern.exec(line) ?? [];
    if (whole === undefined) return undefined;
    return before + redactQuoted('password', raw, redaction) + line.slice(before.length + raw.length);
  };

/** `host:port:database:user:password` (PostgreSQL documentation, "The Password File"). */
const pgpass: LineRule = (line, redaction) => {
  const before = /^(?!#)(?:(?:\\.|[^:\\])*:){4}/.exec(line)?.[0].length;
  if (before === undefined) return undefined;
  redaction.found.add(line.slice(before).trimEnd().replace(/\\(.)/g, '$1'));
  return hideFrom(line, before, redaction);
};

/** Seven fields with tabs between them: `domain TRUE / TRUE 1999999999 name value`. */
const netscapeCookie: LineRule = (line, redaction) => {
  const before = /^(?:#HttpOnly_)?[^\s#]\S*\t(?:TRUE|FALSE)\t\S*\t(?:TRUE|FALSE)\t\d+\t[^\t]*\t/.exec(
    line,
  )?.[0].length;
  return before === undefined ? undefined : hideFrom(line, before, redaction);
};

/** `createUser name SHA "password" AES password` */
const snmp: LineRule = (line, redaction) => {
  const head = /^\s*createUser\s+\S+\s+/.exec(line)?.[0];
  if (head === undefined)
    return hideMatch(/^(\s*(?:com2sec6?\s+\S+\s+\S+\s+|trap2?sink\s+\S+\s+|informsink\s+\S+\s+))(\S+)/)(
      line,
      redaction,
    );
  return (
    head +
    line
      .slice(head.length)
      .replace(/"[^"]*"|[^\s"]+/g, (word) =>
        /^(?:MD5|SHA[-\d]*|AES[-\d]*|DES|-\w)$/i.test(word)
          ? word
          : redactQuoted('password', word, redaction),
      )
  );
};

const credentialFiles: readonly CredentialFile[] = [
  { matches: (base) => base.includes('pgpass'), rule: pgpass },
  // `"user" "password"` (pgbouncer, "auth_file")
  { matches: (base) => base === 'userlist.txt', rule: hideMatch(/^("[^"]*"\s+)("(?:[^"]|"")*")/) },
  // client, server, secret, addresses
  {
    matches: (base) => /^(?:chap|pap)-secrets$/.test(base),
    rule: hideMatch(/^(?!#)(\s*(?:"[^"]*"|\S+)\s+(?:"[^"]*"|\S+)\s+)("[^"]*"|\S+)/),
  },
  { matches: (base) => /^snmpd?(?:\.local)?\.conf$/.test(base), rule: snmp },
  {
    matches: (base, text) => /cookies?\.txt$/.test(base) || text.startsWith('# Netscape'),
    rule: netscapeCookie,
  },
  // `left right : PSK "x"` of strongSwan
  {
    matches: (base) => base === 'ipsec.secrets',
    rule: hideMatch(
      /^((?!#)[^:]*:\s*(?:(?:PSK|EAP|XAUTH|NTLM|PIN)\s+(?:%\S+\s+)?|(?:RSA|ECDSA|P12|PKCS8)\s+\S+\s+))("[^"]*"|\S+)/,
    ),
  },
  // A line of its own in a .netrc that spreads over several.
  { matches: (base) => /netrc$/.test(base), rule: hideMatch(/^(\s*password\s+)(\S+)/) },
  // `host:user:password` (Exim of Debian)
  { matches: (base) => base === 'passwd.client', rule: hideMatch(/^(?!#)([^:]*:[^:]*:)(\S+)/) },
  // `site user:password` (Postfix, "smtp_sasl_password_maps")
  { matches: (base) => /sasl_passw/.test(base), rule: hideMatch(/^(?!#)(\s*\S+\s+[^\s:]+:)(\S+)/) },
];

/** The rule for the lines of a file that is known by its name or its first line. */
export const lineRuleFor = (name: string, text: string): LineRule | undefined =>
  credentialFiles.find(({ matches }) => matches(basename(name), text))?.rule;

/** A file that is nothing but secrets, as Docker and Kubernetes mount them, or a list of users and passwords. */
export function isSecretFile(name: string): boolean {
  const base = basename(name);
  const ending = /\.(?:txt|secret|key|token|pass|pwd|password|lst|list)$/;
  const stem = base.replace(ending, '');
  if (/\.[a-z]+$/.test(stem.replace(/^\./, ''))) return false;
  return (
    /(?:^|\/)\.?secrets?$/.test(dirname(name)) ||
    /\.(?:key|secret|token|pass|pwd|password)$/.test(base) ||
    suspicionOf(stem) !== 'none'
  );
}

/** `NAME=value`, `Name: value`, `[section]`, `setting { … }`: the rules for any file know what in them is secret. */
const settingLike =
  /^\s*(?:(?:export\s+)?[\p{L}_][\p{L}\p{N}_.-]*(?:\s*=|:\s)|\[[^\]]*\]\s*$|[#;]|\/\/|-----|[{}])/u;

/** One line of a secret file: the password of `user:password`, or all of it. */
export const redactSecretLine: LineRule = (line, redaction) => {
  if (line.trim() === '' || line.includes(placeholder) || settingLike.test(line)) return undefined;
  if (/:\/\//.test(line)) {
    const shown = redactText(line, redaction);
    return shown === line ? hideFrom(line, indentOf(line), redaction) : shown;
  }
  const user = /^\s*[^\s:"]+:/.exec(line)?.[0].length;
  if (user === undefined) return hideFrom(line, indentOf(line), redaction);
  const rest = /^[^:]*/.exec(line.slice(user))?.[0] ?? '';
  // `daemon:*:19500`: no password, or one that is kept elsewhere.
  if (/^[x*!]*$/.test(rest.trim())) return line;
  const isTable = /^[^:]*:\d*:/.test(line.slice(user));
  const end = isTable ? user + rest.length : line.length;
  return hideFrom(line.slice(0, end), user, redaction) + line.slice(end);
};

const indentOf = (line: string): number => line.length - line.trimStart().length;

/** `Private-Lines: 2` of PuTTY's keys: how many of the lines after it are the key. */
export const privateLines = (line: string): number =>
  Number(/^Private-Lines:\s*(\d{1,4})\s*$/.exec(line)?.[1] ?? 0);
