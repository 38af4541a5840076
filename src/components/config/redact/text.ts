import { suspicionOf, type Suspicion } from './key-words.ts';
import { replaceKnown } from './known.ts';
import {
  authorizationPattern,
  digestNamePattern,
  looksLikePath,
  looksRandom,
  privateKeyPattern,
  secretAddressPattern,
  tokenPatterns,
} from './patterns.ts';
import { percentDecoded, placeholder, redacted, type Found } from './placeholder.ts';

/** What every rule needs: where found secrets go, and the spellings that are known already. */
export interface Redaction {
  readonly found: Found;
  readonly known: readonly string[];
}

const switchPattern = /^(?:true|false|yes|no|on|off|null|none|undefined|~|enabled|disabled|default)$/i;
const numberPattern = /^[+-]?\d[\d._]*(?:ms|s|m|h|d|k|kb|mb|gb|b|%)?$/i;
const referencePattern = /^\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*|\{\{.*\}\}|\(.*\))$|^\{\{.*\}\}$|^<[\w -]+>$/s;
const expansionPattern = /\$\{([A-Za-z_]\w*)(:?[-=+])([^{}]*)\}/g;
/** Where secrets are kept, not secrets: our own `secrets:` setting. */
const modePattern = /^(?:repository|sealed|redact-only)$/;
const addressPattern = /^[a-z][a-z0-9+.-]*:\/\//i;

/** Whether the value of a suspicious setting is plainly no secret. */
function isInnocent(value: string, suspicion: Suspicion): boolean {
  if (value === '' || value === placeholder || switchPattern.test(value) || referencePattern.test(value))
    return true;
  if (suspicion === 'always') return modePattern.test(value);
  if (numberPattern.test(value) || looksLikePath(value)) return true;
  return value.length < 6 && /^[A-Za-z]+$/.test(value);
}

/**
 * Redacts the value of one setting. The whole value goes when the name says so; otherwise what looks like a secret
 * inside it. References such as `${NAME}` stay, a default inside one (`${NAME:-default}`) is judged by both names.
 */
export function redactSetting(key: string, value: string, redaction: Redaction): string {
  const suspicion = suspicionOf(key);
  const trimmed = value.trim();
  if (suspicion === 'none') {
    if (looksRandom(trimmed) && !(digestNamePattern.test(key) && /^[0-9a-f]+$/i.test(trimmed)))
      return redacted(value, redaction.found);
    return redactText(value, redaction);
  }
  if (new RegExp(`^(?:${expansionPattern.source})$`).test(trimmed))
    return redactExpansions(value, redaction, suspicion);
  if (isInnocent(trimmed, suspicion)) return redactText(value, redaction);
  if (suspicion === 'likely' && addressPattern.test(trimmed)) return redactText(value, redaction);
  rememberParts(trimmed, redaction.found);
  redaction.found.add(trimmed);
  return redacted(value, redaction.found);
}

/** Passwords inside a value that is replaced whole must be known for the other files too. */
function rememberParts(value: string, found: Found): void {
  redactUserinfo(value, { found, known: [] });
  redactTokens(value, found);
}

function redactExpansions(text: string, redaction: Redaction, around: Suspicion): string {
  return text.replace(expansionPattern, (whole, name: string, operator: string, fallback: string) => {
    const suspicion = around === 'none' ? suspicionOf(name) : around;
    if (suspicion === 'none' || isInnocent(fallback, suspicion)) return whole;
    return `\${${name}${operator}${redacted(fallback, redaction.found)}}`;
  });
}

function redactTokens(text: string, found: Found): string {
  let result = text.replace(privateKeyPattern, (block) => redacted(block, found));
  result = result.replace(secretAddressPattern, (_, address: string, rest: string) => {
    return `${address}${redacted(rest, found)}`;
  });
  for (const pattern of tokenPatterns) result = result.replace(pattern, (token) => redacted(token, found));
  return result.replace(authorizationPattern, (whole, scheme: string, space: string, credentials: string) =>
    credentials === placeholder ? whole : `${scheme}${space}${redacted(credentials, found)}`,
  );
}

/**
 * `scheme://user:password@host`. The password ends at the last `@` before the next `/`, `?` or `#` (WHATWG URL,
 * "authority state"); when there is none there and no port either, at the last `@` of the word, because people do
 * put unescaped passwords into addresses.
 */
function redactUserinfo(text: string, redaction: Redaction): string {
  return text.replace(
    /([a-z][a-z0-9+.-]*:\/\/)((?:(?![a-z][a-z0-9+.-]{0,20}:\/\/)[^\s"'`<>])+)/gi,
    (whole, scheme: string, rest: string) => {
      const authority = /^(?:\$\{[^}]*\}|[^/?#])*/.exec(rest)?.[0] ?? '';
      let end = authority.lastIndexOf('@');
      if (end < 0 && /^[^:@/]*:(?!\d+(?:[/?#,]|$))/.test(rest)) end = rest.lastIndexOf('@');
      if (end < 0) return whole;
      return `${scheme}${redactCredentials(rest.slice(0, end), redaction)}${rest.slice(end)}`;
    },
  );
}

function redactCredentials(userinfo: string, redaction: Redaction): string {
  const colon = userinfo.replace(/\$\{[^}]*\}/g, (ref) => '_'.repeat(ref.length)).indexOf(':');
  const user = colon < 0 ? userinfo : userinfo.slice(0, colon);
  const password = colon < 0 ? '' : userinfo.slice(colon + 1);
  if (colon < 0 || password === '') {
    const isToken = user.length >= 16 && /\d/.test(user) && !user.includes('$');
    return isToken ? redacted(user, redaction.found) + userinfo.slice(user.length) : userinfo;
  }
  const expanded = redactExpansions(password, redaction, 'always');
  if (expanded !== password || referencePattern.test(password)) return `${user}:${expanded}`;
  redaction.found.add(percentDecoded(password));
  return `${user}:${redacted(password, redaction.found)}`;
}

/** `NAME=value` inside commands, query strings, connection strings and comments. */
function redactAssignments(text: string, redaction: Redaction): string {
  return text.replace(
    /(?<![\w$-])([A-Za-z_][\w.-]*)(\s?=\s?)("(?:[^"\\]|\\.)*"|'[^']*'|\$\{[^}]*\}|[^\s;&|,"'`<>]+)/g,
    (whole, key: string, equals: string, raw: string) => {
      if (suspicionOf(key) === 'none') return whole;
      return `${key}${equals}${redactQuoted(key, raw, redaction)}`;
    },
  );
}

/** `--password x`, `--password=x`, `-a x` of redis-cli, `-u user:x` of curl, `sshpass -p x`, `mysql -px`. */
function redactFlags(text: string, redaction: Redaction): string {
  const value = `("(?:[^"\\\\]|\\\\.)*"|'[^']*'|(?!-)[^\\s"'\`;|&]+)`;
  const named = new RegExp(`(?<![\\w-])(--?)([A-Za-z][\\w-]+)(=|\\s+)${value}`, 'g');
  let result = text.replace(named, (whole, dashes: string, name: string, gap: string, raw: string) => {
    const flag = name.replaceAll('-', '_');
    if (suspicionOf(flag) === 'none') return whole;
    return `${dashes}${name}${gap}${redactQuoted(flag, raw, redaction)}`;
  });
  const short = new RegExp(
    `(\\b(?:redis-cli|valkey-cli)\\b[^\\n|;]*?\\s-a\\s+|\\bsshpass\\s+-p\\s*)${value}`,
    'g',
  );
  result = result.replace(
    short,
    (_, before: string, raw: string) => `${before}${redactQuoted('password', raw, redaction)}`,
  );
  result = result.replace(
    /(\bcurl\b[^\n|;]*?\s(?:-u|--user)[\s=]*["']?[^\s:"']+:)([^\s"']+)/g,
    (_, before: string, raw: string) => `${before}${redactSetting('password', raw, redaction)}`,
  );
  return result.replace(
    /(\b(?:mysql|mysqldump|mariadb|mysqladmin|mariadb-dump)\b[^\n|;]*?\s-p)([^\s"']+)/g,
    (_, before: string, raw: string) => `${before}${redactSetting('password', raw, redaction)}`,
  );
}

/** Redacts a value keeping its quotes. */
export function redactQuoted(key: string, raw: string, redaction: Redaction): string {
  const quote = /^(["'`])[\s\S]*\1$/.test(raw) && raw.length > 1 ? raw.charAt(0) : '';
  const inner = raw.slice(quote.length, raw.length - quote.length);
  return `${quote}${redactSetting(key, inner, redaction)}${quote}`;
}

/** Redacts whatever is recognised by its own shape, or is known, inside any text. */
export function redactText(text: string, redaction: Redaction): string {
  let result = redactTokens(text, redaction.found);
  if (result.includes('://')) result = redactUserinfo(result, redaction);
  if (result.includes('${')) result = redactExpansions(result, redaction, 'none');
  if (result.includes('=')) result = redactAssignments(result, redaction);
  if (result.includes('-')) result = redactFlags(result, redaction);
  return replaceKnown(result, redaction.known);
}
