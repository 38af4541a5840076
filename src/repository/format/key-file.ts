import { randomBytes, scrypt, type ScryptOptions } from 'node:crypto';
import { z } from 'zod';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import { SealingKey } from './crypto.ts';
import { formatGoTime, parseGoTime } from './go-time.ts';
import { encodeGoJson } from './go-json.ts';

const base64 = z.base64().transform((text) => Buffer.from(text, 'base64'));

const keyFileSchema = z.object({
  kdf: z.string(),
  N: z.number().int().positive(),
  r: z.number().int().positive(),
  p: z.number().int().positive(),
  salt: base64,
  data: base64,
});

const masterKeySchema = z.object({
  mac: z.object({ k: base64, r: base64 }),
  encrypt: base64,
});

/** scrypt's cost. 32 MiB and about a quarter of a second (OWASP password storage: N=2^15, r=8, p=3). */
const kdfParameters = { N: 1 << 15, r: 8, p: 3 } as const;
const saltBytes = 64;
/** A hostile or damaged key file must not make us allocate or compute without bound: N * r is memory, N * r * p time. */
const kdfBlocksMax = 1 << 21;
const kdfBlockBytes = 128;
const kdfWorkMax = 1 << 24;

/** Who created a key; shown by `restic key list`. */
interface KeyOrigin {
  readonly createdNs: bigint;
  readonly hostname: string;
  readonly username: string;
}

const keyOriginSchema = z.object({
  created: z.string().optional(),
  hostname: z.string().default(''),
  username: z.string().default(''),
});

/**
 * Who made the key in a key file, which everybody may know.
 * @throws CorruptionError when it is no key file
 */
export function decodeKeyOrigin(
  content: Uint8Array,
  name: string,
): Omit<KeyOrigin, 'createdNs'> & { readonly createdNs: bigint | undefined } {
  parse(keyFileSchema, content, `Key ${name}`);
  const { created, ...origin } = parse(keyOriginSchema, content, `Key ${name}`);
  return { ...origin, createdNs: created === undefined ? undefined : parseGoTime(created) };
}

/** The JSON of a key file that opens `master` with `password`. Key files are stored in the clear. */
export async function encodeKeyFile(
  master: SealingKey,
  password: string,
  origin: KeyOrigin,
): Promise<Uint8Array> {
  const salt = randomBytes(saltBytes);
  const { encrypt, macK, macR } = master.material;
  const plaintext = encodeGoJson({
    mac: { k: toBase64(macK), r: toBase64(macR) },
    encrypt: toBase64(encrypt),
  });
  const userKey = await deriveKey(password, salt, kdfParameters);
  return Buffer.from(
    encodeGoJson({
      created: formatGoTime(origin.createdNs),
      username: origin.username,
      hostname: origin.hostname,
      kdf: 'scrypt',
      N: kdfParameters.N,
      r: kdfParameters.r,
      p: kdfParameters.p,
      salt: toBase64(salt),
      data: toBase64(userKey.seal(Buffer.from(plaintext))),
    }),
  );
}

/**
 * The master key in a key file, or undefined when `password` is not this key's.
 * @throws CorruptionError when it is no key file
 * @throws TarsError `unsupported-version` when it uses another key derivation than scrypt
 */
export async function openKeyFile(
  content: Uint8Array,
  password: string,
  name: string,
): Promise<SealingKey | undefined> {
  const file = parse(keyFileSchema, content, `Key ${name}`);
  if (file.kdf !== 'scrypt') {
    throw new TarsError('unsupported-version', `Key ${name} uses the unknown key derivation "${file.kdf}"`, {
      hint: 'Use a newer tars, or open the repository with another key.',
    });
  }
  const { N, r, p } = file;
  if (Math.max(N, p) * r > kdfBlocksMax || N * r * p > kdfWorkMax) {
    throw new CorruptionError(
      `Opening key ${name} would take an unreasonable amount of work: N=${N}, r=${r}, p=${p}`,
    );
  }
  const userKey = await deriveKey(password, file.salt, file);
  const plaintext = userKey.tryOpen(file.data);
  if (!plaintext) return undefined;
  const { mac, encrypt } = parse(masterKeySchema, plaintext, `The master key in key ${name}`);
  return new SealingKey({ encrypt, macK: mac.k, macR: mac.r });
}

function deriveKey(
  password: string,
  salt: Uint8Array,
  { N, r, p }: { N: number; r: number; p: number },
): Promise<SealingKey> {
  const options: ScryptOptions = { N, r, p, maxmem: kdfBlockBytes * r * (N + p + 4) };
  // Impossible parameters are thrown at once, inside the promise.
  return new Promise<Buffer>((resolve, reject) => {
    scrypt(password, salt, 64, options, (error, derived) => {
      if (error) reject(error);
      else resolve(derived);
    });
  }).then(
    (derived) =>
      new SealingKey({
        encrypt: derived.subarray(0, 32),
        macK: derived.subarray(32, 48),
        macR: derived.subarray(48, 64),
      }),
    (cause: unknown) => {
      throw new CorruptionError(`Key derivation with N=${N}, r=${r}, p=${p} is impossible`, { cause });
    },
  );
}

function parse<T>(schema: z.ZodType<T>, content: Uint8Array, what: string): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(content).toString('utf8')));
  } catch (cause) {
    // Not the cause itself: JSON.parse quotes what it read, which may be key material.
    throw new CorruptionError(`${what} is not valid`, {
      context: { reason: cause instanceof Error ? cause.name : 'unknown' },
    });
  }
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
