import { redactClauses } from './clauses.ts';
import { redactCommands } from './commands.ts';
import { isPublic, suspicionOf, wordsOf, type Suspicion } from './key-words.ts';
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
/** `os.environ["NAME"]`, `process.env.NAME` and the like, in code. */
const lookupPattern =
  /^(?:(?:os\.)?environ(?:\.get)?|(?:os\.)?getenv|process\.env|env|ENV|\$_ENV|\$_SERVER|System\.getenv)[.[(]["']?\w+["']?[\])]?;?$/;
const expansionPattern = /\$\{([A-Za-z_]\w*)(:?[-=+])([^{}]*)\}/g;
/** Where secrets are kept, not secrets: our own `secrets:` setting. */
const modePattern = /^(?:repository|sealed|redact-only)$/;
const addressPattern = /^[a-z][a-z0-9+.-]*:\/\//i;

/** Whether the value of a suspicious setting is plainly no secret. */
function isInnocent(value: string, suspicion: Suspicion): boolean {
  if (value === '' || value === placeholder || switchPattern.test(value)) return true;
  if (referencePattern.test(value) || lookupPattern.test(value)) return true;
  if (suspicion === 'always') return modePattern.test(value);
  if (numberPattern.test(value) || isFilePath(value)) return true;
  return value.length < 6 && /^[A-Za-z]+$/.test(value);
}

const fileNamePattern = /^[\w.-]+\.(?:key|pem|crt|cer|p12|pfx|jks|json|txt|env|ya?ml)$/;

/** `neo4j/password` has the form of a path as well: a relative one counts when it ends like a file or a directory. */
function isFilePath(value: string): boolean {
  if (fileNamePattern.test(value)) return true;
  return looksLikePath(value) && (/^(?:~|\.{1,2})?\//.test(value) || /\.[A-Za-z]\w{0,5}$|\/$/.test(value));
}

/** A PIN is a number; a small one is the pin of a plug. */
const isPin = (key: string, value: string): boolean =>
  /^\d{4,}$/.test(value) && wordsOf(key).some((word) => word === 'pin');

/** `key="ApiKey"`, `key: password`: the name of a secret. */
const isNameOfSecret = (key: string, value: string): boolean =>
  /^key$/i.test(key) &&
  /^[A-Za-z_][\w.-]*$/.test(value) &&
  !/\d/.test(value) &&
  suspicionOf(value) !== 'none';

/**
 * Redacts the value of one setting. The whole value goes when the name says so; otherwise what looks like a secret
 * inside it. References such as `${NAME}` stay, a default inside one (`${NAME:-default}`) is judged by both names.
 */
export function redactSetting(key: string, value: string, redaction: Redaction): string {
  const suspicion = suspicionOf(key);
  const trimmed = value.trim();
  if (suspicion === 'none') {
    const isDigest = digestNamePattern.test(key) && /^[0-9a-f]+$/i.test(trimmed);
    if (isPublic(key)) return redactText(value, redaction);
    if (looksRandom(trimmed) && !isDigest) return redactWhole(value, redaction);
    return redactRandomWords(redactText(value, redaction), redaction);
  }
  if (new RegExp(`^(?:${expansionPattern.source})$`).test(trimmed))
    return redactExpansions(value, redaction, suspicion);
  if (isNameOfSecret(key, trimmed)) return value;
  if (isInnocent(trimmed, suspicion) && !isPin(key, trimmed)) return redactText(value, redaction);
  if (suspicion === 'likely' && addressPattern.test(trimmed)) return redactText(value, redaction);
  return redactWhole(value, redaction);
}

function redactWhole(value: string, redaction: Redaction): string {
  const trimmed = value.trim();
  rememberParts(trimmed, redaction.found);
  redaction.found.add(trimmed);
  return redacted(value, redaction.found);
}

/** Passwords inside a value that is replaced whole must be known for the other files too. */
function rememberParts(value: string, found: Found): void {
  redactUserinfo(value, { found, known: [] });
  redactTokens(value, found);
  rememberPair(value, found);
  if (!/^[A-Za-z0-9+/_-]{12,}={0,2}$/.test(value)) return;
  const decoded = Buffer.from(value, 'base64').toString('latin1').trimEnd();
  if (!/^[ -~]{8,}$/.test(decoded)) return;
  found.add(decoded);
  rememberPair(decoded, found);
}

/** The passwords of `user:password`, `user/password` and of a list of them or of secrets. */
function rememberPair(value: string, found: Found): void {
  const parts = value.split(/[,;]\s*/);
  for (const part of parts) {
    const password = /^[\w.@-]+[:/]([^\s/]+)$/.exec(part)?.[1];
    if (password !== undefined) found.add(password);
    else if (parts.length > 1) found.add(part);
  }
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
    credentials === placeholder ? whole : `${scheme}${space}${redactCredential(credentials, found)}`,
  );
}

function redactCredential(credential: string, found: Found): string {
  rememberParts(credential, found);
  return redacted(credential, found);
}

/**
 * `scheme://user:password@host`. The password ends at the last `@` before the next `/`, `?` or `#` (WHATWG URL,
 * "authority state"); when there is none there and no port either, at the last `@` of the word, because people do
 * put unescaped passwords into addresses.
 */
function redactUserinfo(text: string, redaction: Redaction): string {
  const withoutOracle = text.replace(
    /(\bjdbc:oracle:\w+:[\w.-]+\/)([^\s@/]+)(?=@)/gi,
    (_, before: string, password: string) => `${before}${redacted(password, redaction.found)}`,
  );
  return withoutOracle.replace(
    /((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,40}:\/\/)((?:(?![a-z][a-z0-9+.-]{0,20}:\/\/)[^\s"'`<>])+)/gi,
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

/** Redacts a value keeping its quotes. */
export function redactQuoted(key: string, raw: string, redaction: Redaction): string {
  const quote = /^(["'`])[\s\S]*\1$/.test(raw) && raw.length > 1 ? raw.charAt(0) : '';
  const inner = raw.slice(quote.length, raw.length - quote.length);
  return `${quote}${redactSetting(key, inner, redaction)}${quote}`;
}

/** A word that could be a token: between blanks, quotes and brackets, and neither a public key nor a digest of a package. */
const randomWord = /(?<![^\s"'`()[\]{}])(?!AAAA|sha\d+-|SHA\d+:)[A-Za-z0-9+/=_-]{20,}(?![^\s"'`()[\]{},;])/g;

/** Random words in the midst of a text. Hexadecimal ones are mostly digests and commits there. */
export function redactRandomWords(text: string, redaction: Redaction): string {
  return text.replace(randomWord, (word) =>
    looksRandom(word) && !/^[0-9a-f]+$/i.test(word) ? redactWhole(word, redaction) : word,
  );
}

/** Redacts whatever is recognised by its own shape, or is known, inside any text. */
export function redactText(text: string, redaction: Redaction): string {
  let result = redactTokens(text, redaction.found);
  if (result.includes('@')) result = redactUserinfo(result, redaction);
  if (result.includes('${')) result = redactExpansions(result, redaction, 'none');
  const redact = (key: string, raw: string): string =>
    suspicionOf(key) === 'none' ? raw : redactQuoted(key, raw, redaction);
  result = redactCommands(redactClauses(result, redact), redact);
  return replaceKnown(result, redaction.known);
}
