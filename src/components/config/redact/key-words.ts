/**
 * Which settings hold secrets, judged by their names. `always` settings are secret whatever the value looks like;
 * `likely` ones unless the value is plainly something else (a number, a switch, a path, an address).
 */
export type Suspicion = 'always' | 'likely' | 'none';

const alwaysWords: ReadonlySet<string> = new Set(
  `pass passwd password passwords pwd pw passphrase passphrases passcode secret secrets credential credentials creds
  requirepass masterauth mnemonic pepper apikey apikeys privkey`.split(/\s+/),
);
const likelyWords: ReadonlySet<string> = new Set(
  `token tokens key keys salt salts auth authorization cookie cookies dsn webhook webhooks bearer jwt hmac pin otp totp
  psk pat signature sig license licence`.split(/\s+/),
);
/** Written together: `pgpassword`, `authtoken`, `secretkey`, `dbpass`. */
const alwaysEnding =
  /(?:password|passwd|passphrase|secret|secretkey|privatekey|accesskey|apikey|dbpass|userpass)$/;
const likelyEnding = /(?:authtoken|accesstoken|apitoken|bottoken|encryptionkey|signingkey|masterkey)$/;
/** Words that begin with or contain a key word and mean something else. */
const innocentWords: ReadonlySet<string> = new Set(['keycloak', 'bypass', 'compass', 'tokenizer', 'monkey']);

/** A setting that ends in one of these describes the secret instead of holding it. */
const describingEndings: ReadonlySet<string> = new Set(
  `file files path paths dir directory url uri host hostname port ports user username name names id ids type types kind
  algorithm algorithms alg algo method methods mode enabled disabled enable disable required optional size length len
  bits bytes limit limits count counts max min ttl expiry expires expiration lifetime age timeout timeouts seconds
  minutes hours days ms interval rotation prefix suffix header headers provider providers backend backends issuer
  audience scope scopes realm policy policies policy_url domain version format encoding field fields column columns
  index store stores service endpoint endpoints region attempts retries rounds iterations cost strategy
  transport class module plugin driver source location namespace env var usage budget window per second samesite stdin
  event events channel channels dn filter group groups attribute attributes redirect callback route roles`.split(
    /\s+/,
  ),
);
/** For these words the address itself is the secret. */
const addressWords: ReadonlySet<string> = new Set(['webhook', 'webhooks', 'dsn']);
const addressEndings: ReadonlySet<string> = new Set(['url', 'uri', 'endpoint']);

/** Compounds of a key word with an everyday meaning. */
const innocentCompounds: readonly RegExp[] = [
  /^(?:max|min|num|n|total|context|prompt|completion|input|output|new|chunk|batch|stop|special|eos|bos|pad|sep|unk|mask)(?: \w+)* tokens?$/,
  /(?:^| )tokens? per(?: |$)/,
  /(?:^| )(?:primary|foreign|sort|cache|partition|shard|routing|row|hot|shortcut|group|unique|public|composite|map|object|dict|lookup|order|idempotency|dedup|deduplication|storage|s3 object|redis|translation|i18n|metric|label|issue|project|message|compose) keys?$/,
  /^(?:key|keys) (?:space|value|event|events|eviction|separator|pattern|patterns|map|mapping|by|func|function|schema|repeat|bindings?|binding|board)/,
  /(?:^| )(?:proxy|fastcgi|uwsgi|scgi|grpc|memcached|multi|single|two|first|second|third|last|low|high|band) pass$/,
  /^(?:pass|passes) (?:through|env|fds|thru|count)(?: |$)/,
  /(?:^| )(?:no|disable|enable|require|use|with|skip|allow|anonymous|default|trust) (?:auth|token|password|salt|pin)$/,
  /(?:^| )license (?:server|text|holder)(?: |$)|^(?:license|licence)$/,
  /(?:^| )secrets? (?:manager|engine|engines)$/,
  /(?:^| )(?:authorized|known|trusted|allowed|ssh public|recipient|gpg) keys?$/,
];

/** Splits on separators, camel humps and digits: `dbPassword2` is `db password 2`. */
export function wordsOf(key: string): string[] {
  return key
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
    .replace(/([A-Za-z])(\d)/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
}

/** Judges a setting by its name. */
export function suspicionOf(key: string): Suspicion {
  const words = wordsOf(key);
  while (words.length > 1 && /^\d+$/.test(words.at(-1) ?? '')) words.pop();
  const always = words.some(isAlways);
  const likely = words.some((word) => likelyWords.has(word) || likelyEnding.test(word));
  if (!always && !likely) return 'none';
  const last = words.at(-1) ?? '';
  const address = addressEndings.has(last) && words.some((word) => addressWords.has(word));
  if (describingEndings.has(last) && words.length > 1 && !address) return 'none';
  const phrase = words.join(' ');
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
  return !innocentWords.has(word) && (alwaysWords.has(word) || alwaysEnding.test(word));
}

/** Maps and lists whose entries are secrets because of the name they stand under. */
export const isContainerOfSecrets = {
  /** `passwords:`, `secrets:`, `credentials:`, `api_keys:`, `tokens:`. */
  byName: (key: string): boolean => suspicionOf(key) === 'always' || wordsOf(key).at(-1) === 'tokens',
  /** Entries in it that describe rather than hold: `{ user, file, external, … }`. */
  describes: (key: string): boolean => {
    const last = wordsOf(key).at(-1) ?? '';
    return describingEndings.has(last) || describingEntries.has(last) || namesSomething(key);
  },
} as const;
const describingEntries: ReadonlySet<string> = new Set([
  'environment',
  'external',
  'target',
  'gid',
  'uid',
  'label',
  'labels',
  'description',
  'comment',
]);

/** Settings whose values are names: a secret equal to one of them is not replaced elsewhere. */
export function namesSomething(key: string): boolean {
  const words = wordsOf(key);
  const last = words.at(-1) ?? '';
  return /^(?:user|username|db|database|dbname|name|host|hostname|service|project|role|login|owner|image|bucket|schema|stack)$/.test(
    last,
  );
}
