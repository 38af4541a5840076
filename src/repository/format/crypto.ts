import { createCipheriv, createDecipheriv, randomBytes, type Cipheriv } from 'node:crypto';
import sodium from 'sodium-native';
import { CorruptionError } from '../../model/errors.ts';

const ivBytes = 16;
const tagBytes = 16;

/** Bytes a sealed text is longer than its plaintext: the IV before and the tag behind it. */
export const sealOverheadBytes = ivBytes + tagBytes;

/** The three secrets behind {@link SealingKey}, as they are kept in key files. */
export interface KeyMaterial {
  /** 32 bytes for AES-256-CTR. */
  readonly encrypt: Uint8Array;
  /** 16 bytes, the AES-128 key that turns the IV into the second half of the one-time key. */
  readonly macK: Uint8Array;
  /** 16 bytes, the Poly1305 `r`. */
  readonly macR: Uint8Array;
}

/** A sealed text in its three consecutive parts, so that a pack can take them without another copy. */
export interface SealedParts {
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/**
 * Authenticated encryption of everything in a repository: `IV || AES-256-CTR || Poly1305-AES`, with the MAC over
 * the ciphertext (restic `doc/design.rst`, "Keys, Encryption and MAC").
 */
export class SealingKey {
  readonly material: KeyMaterial;
  readonly #maskedR: Buffer;
  /** Encrypts one block a call. Kept, because making a cipher costs more than a small blob's encryption. */
  readonly #macCipher: Cipheriv;

  constructor(material: KeyMaterial) {
    if (material.encrypt.length !== 32 || material.macK.length !== 16 || material.macR.length !== 16) {
      throw new CorruptionError('A repository key has the wrong length');
    }
    if ([material.encrypt, material.macK, material.macR].some((part) => part.every((byte) => byte === 0))) {
      throw new CorruptionError('A repository key is all zero');
    }
    this.material = material;
    this.#maskedR = maskR(material.macR);
    this.#macCipher = createCipheriv('aes-128-ecb', material.macK, null).setAutoPadding(false);
  }

  /** A fresh random key. */
  static generate(): SealingKey {
    return new SealingKey({
      encrypt: randomBytes(32),
      macK: randomBytes(16),
      macR: maskR(randomBytes(16)),
    });
  }

  /** Encrypts and authenticates under a fresh random IV. */
  sealParts(plaintext: Uint8Array): SealedParts {
    const iv = randomIv();
    const ciphertext = createCipheriv('aes-256-ctr', this.material.encrypt, iv).update(plaintext);
    const tag = Buffer.allocUnsafe(tagBytes);
    sodium.crypto_onetimeauth(tag, ciphertext, this.#oneTimeKey(iv));
    return { iv, ciphertext, tag };
  }

  /** As {@link sealParts}, in one buffer of `plaintext.length + sealOverheadBytes`. */
  seal(plaintext: Uint8Array): Buffer {
    const { iv, ciphertext, tag } = this.sealParts(plaintext);
    return Buffer.concat([iv, ciphertext, tag]);
  }

  /**
   * Authenticates, then decrypts.
   * @param what names the sealed text in the error, such as `index 1a2b…`
   * @throws CorruptionError when the bytes are not what this key sealed
   */
  open(sealed: Uint8Array, what: string): Buffer {
    const plaintext = this.tryOpen(sealed);
    if (!plaintext) throw new CorruptionError(`Authentication of ${what} failed: its bytes were changed`);
    return plaintext;
  }

  /** As {@link open}, but undefined when authentication fails: a password may simply be the wrong one. */
  tryOpen(sealed: Uint8Array): Buffer | undefined {
    if (sealed.length < sealOverheadBytes) return undefined;
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.length);
    const iv = bytes.subarray(0, ivBytes);
    if (isZero(iv)) return undefined;
    const ciphertext = bytes.subarray(ivBytes, bytes.length - tagBytes);
    const tag = bytes.subarray(bytes.length - tagBytes);
    if (!sodium.crypto_onetimeauth_verify(tag, ciphertext, this.#oneTimeKey(iv))) return undefined;
    return createDecipheriv('aes-256-ctr', this.material.encrypt, iv).update(ciphertext);
  }

  #oneTimeKey(iv: Uint8Array): Buffer {
    return Buffer.concat([this.#maskedR, this.#macCipher.update(iv)]);
  }
}

/** Clears the bits Poly1305 requires to be zero in `r` (https://cr.yp.to/mac/poly1305-20050329.pdf, section 2). */
function maskR(r: Uint8Array): Buffer {
  const masked = Buffer.from(r);
  for (const i of [3, 7, 11, 15]) masked[i] = (masked[i] ?? 0) & 0x0f;
  for (const i of [4, 8, 12]) masked[i] = (masked[i] ?? 0) & 0xfc;
  return masked;
}

/** restic refuses an all-zero IV as a sign of a broken random source. */
function randomIv(): Buffer {
  const iv = randomBytes(ivBytes);
  if (isZero(iv)) throw new CorruptionError('The random source returned only zeros');
  return iv;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
