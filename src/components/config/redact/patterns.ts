/**
 * Secrets that are recognised by their own shape wherever they stand. Shapes are those the issuers document for
 * secret scanning; public counterparts (publishable keys, certificates, public keys) are left out on purpose.
 */
const start = '(?<![A-Za-z0-9_])';

/** Tokens that are known by their form, wherever they stand. */
export const tokenPatterns: readonly RegExp[] = [
  /sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{12,}/,
  /(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,}/,
  /whsec_[A-Za-z0-9+/=]{16,}/,
  /gh[pousr]_[A-Za-z0-9]{20,}/,
  /github_pat_[A-Za-z0-9_]{20,}/,
  /gl(?:pat|ptt|dt|rt|cbt|soat)-[A-Za-z0-9_-]{16,}/,
  /xox[abeprs]-[A-Za-z0-9-]{8,}/,
  /xapp-[A-Za-z0-9-]{8,}/,
  /(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])/,
  /AIza[A-Za-z0-9_-]{30,}/,
  /ya29\.[A-Za-z0-9_-]{20,}/,
  /GOCSPX-[A-Za-z0-9_-]{20,}/,
  /hf_[A-Za-z0-9]{20,}/,
  /(?:npm|pypi|dckr_pat|gsk|nvapi|tskey|lsv2|pcsk|tvly|shpat|shpss|dop_v1|doo_v1|sbp|r8|pul|rubygems|ntn|figd|exa|jina|pplx|xai|csk|fw)[_-][A-Za-z0-9_-]{20,}/,
  /SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}/,
  /hv[sb]\.[A-Za-z0-9_-]{20,}/,
  // `-----BEGIN … PRIVATE KEY` in base64, with whatever is not a certificate or a public key.
  /LS0tLS1CRUdJTi(?!BDRVJU|BQVUJMSU)[A-Za-z0-9+/=]{20,}/,
  /key-[0-9a-f]{32}/,
  /gl(?:sa|c)_[A-Za-z0-9_+/=]{20,}/,
  /(?:lin_api|ATATT3x|sntry[us]|dp\.pt|PMAK|CFPAT|rpa|shpca|sq0atp|dapi|fo1|fm2)[-_.]?[A-Za-z0-9_=-]{20,}/,
  /\d{8,10}:AA[A-Za-z0-9_-]{30,}/,
  /(?<!-)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/,
  /AGE-SECRET-KEY-(?:PQ-)?1[A-Za-z0-9]{20,}/,
  /AGE-PLUGIN-[A-Z0-9-]{1,60}1[A-Z0-9]{20,}/,
  // Password hashes: crypt(3), bcrypt, argon2, scrypt, PostgreSQL SCRAM.
  /\$(?:2[abxy]|apr1|1|5|6|7|y|gy|argon2(?:id|i|d)|scrypt)\$[A-Za-z0-9./$=,+-]{16,}/,
  /SCRAM-SHA-(?:1|256)\$[A-Za-z0-9+/=:$]{20,}/,
  /\{S?(?:SHA|MD5)\d*\}[A-Za-z0-9+/=]{16,}/,
  // `{PLAIN}x` and other schemes of Dovecot and of LDAP.
  /(?<=\{(?:PLAIN|CLEAR(?:TEXT)?|[A-Z0-9]{0,12}-?CRYPT|ARGON2(?:ID|I)?|PBKDF2[A-Z0-9-]{0,12})\})[^\s:"'<>$[][^\s:"'<>]{0,400}/,
  // Of HTTP Digest: who has it can search for the password.
  /(?<=\bresponse=["']?)[0-9a-f]{32,128}/,
].map((pattern) => new RegExp(`${/^\\[${]/.test(pattern.source) ? '' : start}(?:${pattern.source})`, 'g'));

/** Addresses that are secrets themselves; the path is what must not be seen. */
export const secretAddressPattern =
  /(https:\/\/(?:hooks\.slack\.com\/(?:services|workflows)|(?:[a-z]+\.)?discord(?:app)?\.com\/api\/webhooks|[a-z0-9.-]+\.webhook\.office\.com|api\.telegram\.org\/bot|hooks\.zapier\.com\/hooks|hc-ping\.com|ntfy\.sh)\/?)([^\s"'<>`]+)/g;

/** `https://host/api/push/ID`, `https://host/webhook/ID`: who knows the last part may call it. */
export const hookPattern =
  /(https?:\/\/[^\s"'<>`/]{1,200}\/(?:[\w.-]{1,60}\/){0,4}(?:push|(?:web)?hooks?|webhook-test|ping)\/)([\w-]{8,200})(?=$|[\s"'<>`/?#])/gm;

/** Not a word of a path: of several kinds of characters, or a UUID. */
export const isHookId = (id: string): boolean =>
  uuidPattern.test(id) || (/\d/.test(id) && /[A-Z]/.test(id) && /[a-z]/.test(id));

/** `Authorization: Bearer x`, `Basic x`, in headers, curl calls and code. */
export const authorizationPattern =
  /\b(bearer|basic|digest|token)([^\S\n]{1,9})(?=[A-Za-z0-9._~+/=-]*[0-9A-Z+/=])([A-Za-z0-9._~+/-]{12,}={0,2})/gi;

/** In a header of that name the credentials may be short. */
export const authorizationHeaderPattern =
  /(\b(?:proxy-)?authorization["']?\s{0,9}[:=,]?\s{0,9}["']?(?:bearer|basic|digest|token|apikey|bot)\s{1,9})(?![$<{]|\w{1,20}=["'])([^\s"'`,;]{1,4000})/gi;

/** Private key blocks in PEM or PGP armour; a block without its end runs to the end of the text. */
export const privateKeyPattern =
  /-----BEGIN ([A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?|AGE ENCRYPTED FILE|OpenVPN Static key V1)-----[\s\S]*?(?:-----END \1-----|$(?![\s\S]))/g;

const uuidPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const pathPattern = /^(?:~|\.{1,2})?\/?[\w.@+-]+(?:\/[\w.@+-]+)*\/?$/;

/** Bits per character by the frequencies of the characters. */
function entropyBits(text: string): number {
  const counts = new Map<string, number>();
  for (const char of text) counts.set(char, (counts.get(char) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}

/** A path of at least two segments, none of which looks random. */
export function looksLikePath(value: string): boolean {
  if (!value.includes('/') || !pathPattern.test(value)) return false;
  const segments = value.split('/').filter((segment) => segment !== '');
  if (segments.length < 2 && !/^(?:~|\.{1,2})?\//.test(value)) return false;
  return segments.every((segment) => !mixes(segment));
}

/** Words, numbers and versions joined by signs, such as `all-MiniLM-L6-v2`. */
function looksComposed(value: string): boolean {
  const parts = value.split(/[-_/]/);
  const isWord =
    /^(?:\d{1,8}|[A-Za-z]{0,2}\d{0,2}[A-Za-z]{0,2}|[A-Z]?[a-z]{1,14}\d{0,3}|[A-Z]{1,10}\d{0,3}|[A-Z]?[a-z]{1,10}[A-Z]{1,4}|\d{1,4}[a-z]{1,10})$/;
  return parts.length > 1 && parts.every((part) => isWord.test(part));
}

/** `-----BEGIN CERTIFICATE` in base64, as Kubernetes has it. */
const certificatePattern = /^LS0tLS1CRUdJTiBDRVJU/;

/** The head of a public key (RFC 5280, SubjectPublicKeyInfo) of RSA, of elliptic curves and of Ed25519; `p=` in DKIM. */
const publicKeyPattern =
  /^(?:p=)?(?:MI[A-Za-z0-9]{2,4}(?:ANBgkqhkiG9w0BAQEFAAO|A0GCSqGSIb3DQEBAQUAA4)|MFkwEwYHKoZIzj0CAQYI|MCowBQYDK2VwAyEA)/;

/** Mixed classes at a length that words do not have. */
function mixes(text: string): boolean {
  return text.length >= 16 && /\d/.test(text) && /[a-z]/.test(text) && /[A-Z]/.test(text);
}

/** Longer than any key in base64. */
const randomLengthMax = 16_384;

/**
 * Whether a value under an innocent name looks like a random token: long, one word, of mixed classes, evenly spread.
 * Image digests, UUIDs, paths, addresses and dotted names are not.
 */
export function looksRandom(value: string): boolean {
  if (value.length < 20 || value.length > randomLengthMax || !/^[A-Za-z0-9+/=_-]+$/.test(value)) return false;
  if (uuidPattern.test(value) || looksLikePath(value) || looksComposed(value)) return false;
  if (certificatePattern.test(value) || publicKeyPattern.test(value) || /^sha\d+-/i.test(value)) return false;
  if (/^[0-9a-f]+$/i.test(value)) return value.length >= 32 && /\d/.test(value) && /[a-f]/i.test(value);
  return mixes(value) && entropyBits(value) >= 3.7;
}

/** Names under which long hexadecimal values are expected. */
export const digestNamePattern =
  /(?:sha\d*|digest|hash|checksum|commit|rev|revision|etag|image|version|build|uuid|guid|fingerprint|polynomial|integrity|md5|(?<!session.?)id$)/i;
