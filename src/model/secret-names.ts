/**
 * Which settings hold secrets, judged by their names. `always` settings are secret whatever the value looks like;
 * `likely` ones unless the value is plainly something else (a number, a switch, a path, an address).
 */
export type Suspicion = 'always' | 'likely' | 'none';

/** The name of a setting, in any script, as a pattern for expressions with the flag `u`. Bounded, so that a search stays linear. */
export const namePattern = String.raw`[\p{L}_][\p{L}\p{M}\p{N}_.\-]{0,80}`;

const wordSet = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

const alwaysWords =
  wordSet(`pass passwd password passwords pwd pw passphrase passphrases passcode secret secrets
  credential credentials creds requirepass masterauth mnemonic pepper privkey authtok
  rocommunity rwcommunity trapcommunity`);
/** Passwords and secrets in other languages, without accents. */
const foreignWords =
  wordSet(`passwort passworter kennwort kennworter geheimnis losenord adgangskode passord salasana
  wachtwoord wachtwoorden senha senhas contrasena contrasenas contrasenya palavrapasse segredo secreto segreto
  motdepasse mdp sifre parola haslo heslo jelszo parool parole lozinka geslo slaptazodis salasona fjalekalimi
  пароль пароли секрет лозинка парола κωδικος συνθηματικο`);
/** Scripts without blanks between words: found anywhere in the name. */
const foreignParts =
  /密码|密碼|口令|密钥|密鑰|秘密|暗証|パスワード|비밀번호|암호|รหัสผ่าน|كلمة.?المرور|كلمة.?السر|סיסמה|סיסמא|पासवर्ड/u;
const foreignPhrases =
  /(?:^| )(?:mots? de passe|palavra passe|ma khau|mat khau|kata sandi|cle secrete|clave secreta)(?: |$)/;
const likelyWords =
  wordSet(`token tokens key keys salt salts auth authorization cookie cookies dsn webhook webhooks
  bearer jwt hmac hmacencoded pin otp totp psk pat signature sig license licence community clave schluessel schlussel
  klucz klic kluc nyckel sleutel токен ключ`);
/** Written together: `pgpassword`, `authtoken`, `secretkey`, `dbpass`, `bindpw`, `passwordsalt`. */
const alwaysEnding =
  /(?:password|passwd|passphrase|passwort|kennwort|wachtwoord|pass|pwd|pw|secret|secretkey|privatekey|accesskey|apikeys?|authtok|creds|credentials)$/;
const alwaysBeginning =
  /^(?:password|passwd|passphrase|secretkey)(?!\w*(?:eval|file|path|type|length|policy|command|field|name|rules|strength)$)/;
const likelyEnding = /(?:tokens?|encryptionkey|signingkey|masterkey|salt|psk)$/;
/** Words that begin with, end in or contain a key word and mean something else. */
const innocentWords =
  wordSet(`keycloak bypass compass encompass trespass surpass overpass underpass lowpass highpass
  bandpass onepass multipass passwordless tokenizer detokenizer monkey basalt cobalt asphalt ipw passwordstore`);

/** A setting that ends in one of these describes the secret instead of holding it. */
const describingEndings =
  wordSet(`file files path paths dir directory url uri host hostname port ports user username
  name names id ids type types kind algorithm algorithms alg algo method methods mode enabled disabled enable disable
  required optional size length len bits bytes limit limits count counts max min ttl expiry expires expiration lifetime
  age timeout timeouts seconds minutes hours days ms interval rotation prefix suffix header headers provider providers
  backend backends issuer audience scope scopes realm policy policies policy_url domain version format encoding field
  fields column columns index store stores service endpoint endpoints region attempts retries rounds iterations cost
  strategy mechanism mechanisms encryption fingerprint fingerprints thumbprint warning tries retry transport class module plugin driver source location namespace env var usage budget window per second
  samesite stdin event events channel channels dn filter group groups attribute attributes redirect callback route
  roles map maps query queries scheme schemes model models view views validator validators hasher hashers command cmd
  rule rules regex entrypoint entrypoints middleware middlewares certresolver priority server servers address schema
  mgmt management exchange derivation generator form forms only page template hint`);
/** For these words the address itself is the secret. */
const addressWords = wordSet('webhook webhooks dsn');
const addressEndings = wordSet('url uri endpoint');

/** Compounds of a key word with an everyday meaning. */
const innocentCompounds: readonly RegExp[] = [
  /^(?:max|min|num|n|total|context|prompt|completion|input|output|new|chunk|batch|stop|special|eos|bos|pad|sep|unk|mask)(?: \w+)* tokens?$/,
  /(?:^| )tokens? per(?: |$)/,
  /(?:^| )(?:primary|foreign|sort|detach|cache|partition|shard|routing|row|hot|shortcut|group|unique|public|composite|map|object|dict|lookup|order|idempotency|dedup|deduplication|storage|s3 object|redis|translation|i18n|metric|label|issue|project|message|compose) keys?$/,
  /^(?:key|keys) (?:space|value|event|events|eviction|separator|pattern|patterns|map|mapping|by|func|function|schema|repeat|bindings?|binding|board)/,
  /(?:^| )(?:proxy|fastcgi|uwsgi|scgi|grpc|memcached|multi|single|two|first|second|third|last|low|high|band) pass$/,
  /^(?:pass|passes) (?:through|environment|env|fds|thru|count)(?: |$)/,
  /(?:^| )(?:no|disable|enable|require|use|with|skip|allow|anonymous|trust|always) (?:auth|token|password|salt|pin)$|(?:^| )default auth$/,
  /(?:^| )license (?:server|text|holder)(?: |$)|^(?:license|licence)$/,
  /(?:^| )secrets? (?:manager|engine|engines)$/,
  /(?:^| )(?:authorized|known|trusted|allowed|ssh public|recipient|gpg) keys?$/,
  /^load credential(?: encrypted)?$/,
  // Of Helm charts: the name of a Secret.
  /(?:^| )(?:existing|pull|tls) secrets?$/,
];

/** Accents are no part of a word: `contraseña` is `contrasena`, `hasło` is `haslo`. */
function withoutAccents(key: string): string {
  if (/^[ -~]*$/.test(key)) return key;
  return key
    .normalize('NFD')
    .replace(/[\u0300-\u036f]/g, '')
    .normalize('NFC')
    .replaceAll('ł', 'l')
    .replaceAll('Ł', 'L');
}

/** Splits on separators, camel humps and digits: `dbPassword2` is `db password 2`. */
export function wordsOf(key: string): string[] {
  return withoutAccents(key)
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1 $2')
    .replace(/([A-Za-z])(\d)/g, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{M}\p{N}]+/u)
    .filter((word) => word !== '');
}

/** The last part of `spring.mail.password.value`, without a generic end. */
function lastSegments(key: string): string {
  const segments = key.split('.');
  while (segments.length > 1 && /^(?:value|default|content|data|\d+)$/i.test(segments.at(-1) ?? ''))
    segments.pop();
  const before = /(?:tokens|keys|cookies|webhooks)$/i.test(segments.at(-2) ?? '') ? -2 : -1;
  return segments.slice(before).join('.');
}

/** Judges a setting by its name. */
export function suspicionOf(key: string): Suspicion {
  const words = wordsOf(key);
  while (words.length > 1 && /^\d+$/.test(words.at(-1) ?? '')) words.pop();
  const phrase = words.join(' ');
  const always = words.some(isAlways) || isForeign(key, phrase);
  // `traefik.http.routers.auth.rule`: a likely word in front only names what the setting is about.
  const judged = key.includes('.') ? wordsOf(lastSegments(key)) : words;
  const likely = judged.some(isLikely);
  if (
    /(?:^| )basic ?auth users$|^private mac$|(?:^| )(?:recovery|backup|scratch) codes?$|(?:^| )(?:seed|recovery) phrase$/.test(
      phrase,
    )
  )
    return 'always';
  if (!always && !likely) return 'none';
  const last = words.at(-1) ?? '';
  const address = addressEndings.has(last) && words.some((word) => addressWords.has(word));
  if (/(?:^| )access key id$/.test(phrase)) return 'likely';
  if (describingEndings.has(last) && words.length > 1 && !address) return 'none';
  if (innocentCompounds.some((pattern) => pattern.test(phrase))) return 'none';
  // Whatever the value: API, private, secret keys and access tokens are never counts or columns.
  if (/(?:^| )(?:api|private|secret|signing|encryption|master|access|auth|session) keys?$/.test(phrase))
    return 'always';
  return always || address ? 'always' : 'likely';
}

/** Public keys look as random as secret ones. */
export const isPublic = (key: string): boolean =>
  wordsOf(key).some((word) => /^(?:public(?:key)?|pub|gpg|pgp)$/.test(word));

/** A word such as `password`, which stands everywhere whoever's password it is. */
export const isKeyWord = (text: string): boolean => alwaysWords.has(text) || likelyWords.has(text);

function isAlways(word: string): boolean {
  if (innocentWords.has(word)) return false;
  return alwaysWords.has(word) || alwaysEnding.test(word) || alwaysBeginning.test(word);
}

function isLikely(word: string): boolean {
  return !innocentWords.has(word) && (likelyWords.has(word) || likelyEnding.test(word));
}

const isForeign = (key: string, phrase: string): boolean =>
  phrase.split(' ').some((word) => foreignWords.has(word)) ||
  foreignPhrases.test(phrase) ||
  foreignParts.test(key);

/** Maps and lists whose entries are secrets because of the name they stand under. */
export const isContainerOfSecrets = {
  /** `passwords:`, `secrets:`, `credentials:`, `api_keys:`, `tokens:`. */
  byName: (key: string): boolean => suspicionOf(key) === 'always' || wordsOf(key).at(-1) === 'tokens',
  /** Entries in it that describe rather than hold: `{ user, file, external, … }`. */
  describes: (key: string): boolean => {
    const last = wordsOf(key).at(-1) ?? '';
    return describingEndings.has(last) || describingEntries.has(last) || namesSomething(key);
  },
  /** `github-oauth: { github.com: … }` of Composer: one secret for each host. */
  byHost: (container: string, entry: string): boolean =>
    /(?:^|[-_])(?:oauth|bearer|tokens?|keys?)$/i.test(container) && /^[\w-]+(?:\.[\w-]+)+$/.test(entry),
} as const;
const describingEntries = wordSet('environment external target gid uid label labels description comment');

/** Settings whose values are names: a secret equal to one of them is not replaced elsewhere. */
export function namesSomething(key: string): boolean {
  const last = wordsOf(key).at(-1) ?? '';
  return /^(?:user|username|db|database|dbname|name|host|hostname|service|project|role|login|owner|image|bucket|schema|stack)$/.test(
    last,
  );
}
