import { isPublic, suspicionOf, wordsOf, type Suspicion } from '../../../model/secret-names.ts';
import { redactClauses } from './clauses.ts';
import { echoedFrom, redactCommands } from './commands.ts';
import type { Replacer } from './known.ts';
import {
  authorizationHeaderPattern,
  authorizationPattern,
  digestNamePattern,
  looksLikePath,
  looksRandom,
  hookPattern,
  isHookId,
  privateKeyPattern,
  secretAddressPattern,
  tokenPatterns,
} from './patterns.ts';
import { percentDecoded, placeholder, redacted, type Found } from './placeholder.ts';
import { isReference, type Dialect } from './references.ts';

/** What every rule needs: where found secrets go, what is known already, and what the file's syntax expands. */
export interface Redaction {
  readonly found: Found;
  readonly known: Replacer;
  readonly dialect: Dialect;
}

const switchPattern =
  /^(?:true|false|yes|no|on|off|null|none|nil|undefined|~|enabled|disabled|default|always|never|auto|required|optional|on_create|\[\]|\{\}|[[{(]+)[,;]?$/i;
const numberPattern = /^[+-]?\d[\d._]*(?:ms|s|m|h|d|k|kb|mb|gb|b|%)?$/i;
const expansionPattern = /\$\{(\w{1,80})(:?[-=+?])([^{}]*)\}/g;
const expansionOnly = new RegExp(`^(?:${expansionPattern.source})$`);
/** Where secrets are kept, not secrets: our own `secrets:` setting. */
const modePattern = /^(?:repository|sealed|redact-only)$/;
const addressPattern = /^[a-z][a-z0-9+.-]*:\/\//i;
/** How something is signed or who authenticates: `SIGNATURE=sha256`, `AUTH=ldap`. */
const methodPattern =
  /^(?:(?:hmac[-_]?)?(?:sha|md)-?\d[\w/-]{0,12}|[hrep]s(?:256|384|512)|ed25519|rsa|dsa|ecdsa|argon2(?:id|i|d)?|bcrypt|scrypt|pbkdf2\w*|basic|ldap|oidc|oauth2?|saml|digest|scram[\w-]*|cert|peer|trust|header|proxy|internal|local|simple|pam|radius|kerberos|forms?|ntlm|login|plain|external|anonymous|native|jwt)$/i;

/** `^9.0.2` of package.json. */
const versionPattern = /^[~^v]\d{1,6}(?:\.\d{1,6}){1,3}$/;
/** What is pressed on a keyboard: `ctrl+shift+k`. */
const chordPattern = /^(?:(?:ctrl|control|alt|shift|cmd|super|meta|option)[+-]){1,4}[\w+-]{1,12}$/i;

/** Whether the value of a suspicious setting is plainly no secret. */
function isInnocent(
  key: string,
  value: string,
  suspicion: Suspicion,
  { dialect }: Redaction,
  isLiteral: boolean,
): boolean {
  if (value === '' || value === placeholder || switchPattern.test(value)) return true;
  if (isReference(value, dialect, isLiteral)) return true;
  // `</etc/ssl/site.key` of Dovecot, `@/run/token` of curl
  const path = value.replace(/^[<@](?=[/~])/, '');
  if (isKeyFile(key, path) || isSystemPath(path)) return true;
  if (suspicion === 'always') return modePattern.test(value);
  if (isPlainNumber(key, value) || isFilePath(value) || methodPattern.test(value)) return true;
  if (versionPattern.test(value) || chordPattern.test(value)) return true;
  if (/(?:^| )(?:cookies?|signature|sig)$/.test(wordsOf(key).join(' ')))
    return /^[A-Za-z_]{1,24}$/.test(value);
  return value.length < 6 && /^[A-Za-z]+$/.test(value);
}

/** A token or a PIN may be all digits; a small number is a count or the pin of a plug. */
function isPlainNumber(key: string, value: string): boolean {
  if (!numberPattern.test(value)) return false;
  const words = wordsOf(key);
  const isPin = words.includes('pin') && /^\d{4,}$/.test(value);
  const isToken =
    words.some((word) => /tokens?$|^(?:keys?|salt|psk|pat|otp|totp)$/.test(word)) && /^\d{6,}$/.test(value);
  return !isPin && !isToken;
}

const fileNamePattern = /^[\w.-]+\.(?:key|pem|crt|cer|p12|pfx|jks|json|txt|env|ya?ml)$/;
const variablesInPath = /\$\{[\w.:-]{1,80}\}|\$[A-Z_]{1,80}|%[\w.]{1,80}%/g;

/** `neo4j/password` has the form of a path as well: a relative one counts when it ends like a file or a directory. */
function isFilePath(value: string): boolean {
  if (fileNamePattern.test(value)) return true;
  const path = value.replace(variablesInPath, '/x');
  return looksLikePath(path) && (/^(?:~|\.{1,2})?\//.test(path) || /\.[A-Za-z]\w{0,5}$|\/$/.test(path));
}

/** `PASSWORD=/run/secrets/db`: no password begins like the folders where they are kept. */
const isSystemPath = (value: string): boolean =>
  /^(?:\/(?:etc|run|var|home|opt|root|srv|usr|mnt|secrets)|~|\.{1,2})\/[\w./-]+$/.test(value) &&
  looksLikePath(value);

/** `PRIVATE_KEY=/etc/ssl/site.key`: whatever the name, that is where the key lies. */
const isKeyFile = (key: string, value: string): boolean =>
  /(?:\.(?:key|pem|p12|pfx|jks|der|crt|asc|gpg|ppk)|id_(?:rsa|dsa|ecdsa|ed25519))$/.test(value) &&
  isFilePath(value) &&
  /key|cert/i.test(key);

/** `key="ApiKey"`, `key: password`, `adminPasswordKey: password`: the name of a secret. */
const isNameOfSecret = (key: string, value: string): boolean =>
  /^key$|(?:password|token)key$/i.test(key) &&
  /^[A-Za-z_][\w.-]*$/.test(value) &&
  !/\d/.test(value) &&
  wordsOf(value).length <= 3 &&
  suspicionOf(value) !== 'none';

/**
 * Redacts the value of one setting. The whole value goes when the name says so; otherwise what looks like a secret
 * inside it. References such as `${NAME}` stay, a default inside one (`${NAME:-default}`) is judged by both names.
 */
export function redactSetting(key: string, value: string, redaction: Redaction, isLiteral = false): string {
  const suspicion = suspicionOf(key);
  const trimmed = value.trim();
  if (suspicion === 'none') {
    const isDigest = digestNamePattern.test(key) && /^[0-9a-f]+$/i.test(trimmed);
    if (/command$|cmd$/i.test(key)) return redactEchoed(value, redaction);
    if (isPublic(key)) return redactText(value, redaction);
    if (/(?:^|[^a-z])(?:user|users|admin|login|userpwd)$/i.test(key)) return redactUser(value, redaction);
    if (looksRandom(trimmed) && !isDigest) return redactWhole(value, redaction);
    // `httpHeaderValue1: Bearer x1`
    const [, scheme, credentials = ''] = /^\s*((?:bearer|basic)\s+)(\S{6,400})\s*$/i.exec(value) ?? [];
    if (scheme !== undefined && /\d/.test(credentials))
      return scheme + redactSetting('password', credentials, redaction);
    return redactRandomWords(redactText(value, redaction), redaction);
  }
  if (!isLiteral && expansionOnly.test(trimmed)) return redactExpansions(value, redaction, suspicion);
  if (isNameOfSecret(key, trimmed)) return value;
  if (trimmed.includes('{{') && templateDefault.test(trimmed))
    return value.replace(
      templateDefault,
      (_, before: string, raw: string) => `${before}${redactQuoted(key, raw, redaction)}`,
    );
  if (isInnocent(key, trimmed, suspicion, redaction, isLiteral)) return redactText(value, redaction);
  if ((suspicion === 'likely' || isDsn(key)) && (addressPattern.test(trimmed) || goDsn.test(trimmed)))
    return redactText(value, redaction);
  return redactWhole(value, redaction);
}

/** `{{ vault_x | default('x') }}`, `{{ default "x" .Values.y }}` */
const templateDefault = /(\bd(?:efault)?(?:\s{0,3}\(\s{0,3}|\s{1,3}))("[^"]*"|'[^']*')/;
/** `user:password@tcp(host:3306)/database` of Go's driver for MySQL. */
const goDsn = /(?<![\w.-])([\w.-]{1,80}:)([^\s"'`]{1,400}?)(?=@(?:tcp6?|unix)\()/;
const isDsn = (key: string): boolean => wordsOf(key).at(-1) === 'dsn';

/** `user=guest:x`; in Compose `user: node:staff` is a user and a group. */
function redactUser(value: string, redaction: Redaction): string {
  const [, user = '', password = ''] = /^([^\s:/@]+:)([^\s:/@]+)$/.exec(value) ?? [];
  const isGroup =
    /^\d*$/.test(password) ||
    user === `${password}:` ||
    (redaction.dialect === 'yaml' && /^[a-z-]+$/.test(password));
  return isGroup ? redactText(value, redaction) : user + redactSetting('password', password, redaction);
}

/** `PASSWORD_COMMAND="echo secret"`: the command writes what it was given. */
function redactEchoed(value: string, redaction: Redaction): string {
  const from = echoedFrom(value);
  if (from === undefined) return redactText(value, redaction);
  return value.slice(0, from) + redactSetting('password', value.slice(from), redaction);
}

function redactWhole(value: string, redaction: Redaction): string {
  const trimmed = value.trim();
  rememberParts(trimmed, redaction.found);
  redaction.found.add(trimmed);
  return redacted(value, redaction.found);
}

/** Passwords inside a value that is replaced whole must be known for the other files too. */
function rememberParts(value: string, found: Found): void {
  redactUserinfo(value, { found, known: nothingKnown, dialect: 'plain' });
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
    // After `?` stands what is said when the variable is missing.
    if (suspicion === 'none' || operator.endsWith('?')) return whole;
    if (isInnocent(name, fallback, suspicion, redaction, false)) return whole;
    return `\${${name}${operator}${redacted(fallback, redaction.found)}}`;
  });
}

function redactTokens(text: string, found: Found): string {
  let result = text.replace(privateKeyPattern, (block) => redacted(block, found));
  result = result.replace(secretAddressPattern, (_, address: string, rest: string) => {
    return `${address}${redacted(rest, found)}`;
  });
  result = result.replace(hookPattern, (whole, address: string, id: string) =>
    isHookId(id) ? `${address}${redacted(id, found)}` : whole,
  );
  for (const pattern of tokenPatterns) result = result.replace(pattern, (token) => redacted(token, found));
  result = result.replace(authorizationHeaderPattern, (whole, before: string, credentials: string) =>
    credentials === placeholder ? whole : `${before}${redactCredential(credentials, found)}`,
  );
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
    /(\bjdbc:oracle:\w{1,20}:[\w.-]{1,80}\/)([^\s@/]+)(?=@)/gi,
    (_, before: string, password: string) => `${before}${redacted(password, redaction.found)}`,
  );
  const withoutGo = withoutOracle.replace(
    new RegExp(goDsn, 'g'),
    (_, user: string, password: string) => `${user}${redacted(password, redaction.found)}`,
  );
  return withoutGo.replace(
    /((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,40}:\/\/)((?:(?![a-z][a-z0-9+.-]{0,20}:\/\/)[^\s"'`<>])+)/gi,
    (whole, scheme: string, rest: string) => {
      const end = userinfoEnd(scheme, rest);
      if (end < 0) return whole;
      // `pover://user@token`
      const host = rest
        .slice(end)
        .replace(/(?<=^@)[\w-]+(?=$|[/?])/, (name) =>
          looksRandom(name) ? redacted(name, redaction.found) : name,
        );
      return `${scheme}${redactCredentials(scheme, rest.slice(0, end), redaction)}${host}`;
    },
  );
}

/** Variables with their bodies hidden: a `:` or `/` inside of `${NAME:-a/b}` divides nothing. */
const withoutVariables = (text: string): string =>
  text.includes('${') ? text.replace(/\$\{[^{}]*\}/g, (ref) => '_'.repeat(ref.length)) : text;

/** Where the credentials of an address end; negative when it has none. */
function userinfoEnd(scheme: string, rest: string): number {
  const plain = withoutVariables(rest);
  const path = plain.search(/[/?#]/);
  const authority = path < 0 ? plain : plain.slice(0, path);
  const end = authority.lastIndexOf('@');
  const beyond = plain.lastIndexOf('@');
  if (beyond <= end) return end;
  const isPort = /^[^:@/]*:\d+(?:[/?#,]|$)/.test(plain);
  if (end < 0) return /^[^:@/]*:/.test(plain) && !isPort ? beyond : -1;
  // `user:p@ss#w@host`, and `p@ss/w@host` where no path has an `@`: what comes before the last one is the password.
  const isHost = /^[\w.-]+(?::\d+)?(?:[/?,]|$)/.test(plain.slice(beyond + 1));
  const mark = plain.charAt(authority.length);
  const isPassword = mark === '#' || (mark === '/' && !/^(?:https?|git|ssh|file|s3)\b/i.test(scheme));
  return isPassword && isHost && !plain.slice(0, beyond).includes('?') ? beyond : end;
}

function redactCredentials(scheme: string, userinfo: string, redaction: Redaction): string {
  const colon = withoutVariables(userinfo).indexOf(':');
  const user = colon < 0 ? userinfo : userinfo.slice(0, colon);
  const password = colon < 0 ? '' : userinfo.slice(colon + 1);
  if (colon < 0 || password === '') {
    const lengthMin = /^https?:/i.test(scheme) ? 8 : 16;
    const isToken = user.length >= lengthMin && /\d/.test(user) && !/[${}]/.test(user);
    return isToken ? redacted(user, redaction.found) + userinfo.slice(user.length) : userinfo;
  }
  const expanded = redactExpansions(password, redaction, 'always');
  if (expanded !== password || isReference(password, redaction.dialect)) return `${user}:${expanded}`;
  redaction.found.add(percentDecoded(password));
  return `${user}:${redacted(password, redaction.found)}`;
}

/** Redacts a value keeping its quotes. */
export function redactQuoted(key: string, raw: string, redaction: Redaction): string {
  const mark = /^(?:[bBrRuUfFeEnN]{1,2}|[uU]&)(?=["'])/.exec(raw)?.[0] ?? '';
  // In a shell what stands in backticks is a command.
  const quotes = redaction.dialect === 'shell' ? /["']/ : /["'`]/;
  const first = raw.charAt(mark.length);
  const quote = quotes.test(first) && raw.length > mark.length + 1 ? first : '';
  const isClosed = quote !== '' && raw.endsWith(quote);
  const dollars = /^(\$(?:[A-Za-z_]\w{0,30})?\$)[^$]*\1$/.exec(raw)?.[1];
  const around = dollars ?? (isClosed ? mark + quote : '');
  const close = dollars ?? (isClosed ? quote : '');
  const inner = raw.slice(around.length, raw.length - close.length);
  // Quotes make a text of what would be an expression; in single ones nothing is expanded.
  const dialect =
    redaction.dialect === 'code' && isClosed ? (quote === '"' ? 'variables' : 'plain') : redaction.dialect;
  return `${around}${redactSetting(key, inner, { ...redaction, dialect }, dollars !== undefined)}${close}`;
}

/** A word that could be a token: between blanks, quotes and brackets, and neither a public key nor a digest of a package. */
const randomWord = /(?<![^\s"'`()[\]{}])(?!AAAA|sha\d+-|SHA\d+:)[A-Za-z0-9+/=_-]{20,}(?![^\s"'`()[\]{},;])/g;

/** Random words in the midst of a text. Hexadecimal ones are mostly digests and commits there. */
export function redactRandomWords(text: string, redaction: Redaction): string {
  return text.replace(randomWord, (word) => {
    // `cipher=TLS_AES_256_GCM_SHA384`
    const own = /^[A-Za-z_]\w{0,30}=(?=[^=])/.exec(word)?.[0] ?? '';
    const value = word.slice(own.length);
    return looksRandom(value) && !/^[0-9a-f]+$/i.test(value) ? own + redactWhole(value, redaction) : word;
  });
}

const nothingKnown: Replacer = { replace: (text) => text, find: () => [] };

/** Redacts whatever is recognised by its own shape, or is known, inside any text. */
export function redactText(text: string, redaction: Redaction): string {
  let result = redactTokens(text, redaction.found);
  if (result.includes('@')) result = redactUserinfo(result, redaction);
  if (result.includes('${')) result = redactExpansions(result, redaction, 'none');
  const redact = (key: string, raw: string): string =>
    suspicionOf(key) === 'none' && key !== 'login' ? raw : redactQuoted(key, raw, redaction);
  result = redactCommands(redactClauses(result, redact), redact);
  return redaction.known.replace(result);
}
