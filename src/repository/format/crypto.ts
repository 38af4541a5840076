import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  randomBytes,
  type Cipheriv,
  type Decipheriv,
  type KeyObject,
} from 'node:crypto';
import sodium from 'sodium-native';
import { CorruptionError } from '../../model/errors.ts';
import { freeBuffer } from '../seal/free-buffer.ts';

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

/** Ciphers work on so much at a time: what they return is garbage soon, and must not be as large as a blob. */
const pieceBytes = 256 << 10;

/**
 * Authenticated encryption of everything in a repository: `IV || AES-256-CTR || Poly1305-AES`, with the MAC over
 * the ciphertext (restic `doc/design.rst`, "Keys, Encryption and MAC").
 */
export class SealingKey {
  readonly material: KeyMaterial;
  readonly #maskedR: Buffer;
  /** Taken in once: a cipher from the key's bytes costs as much as the encryption of 16 KiB. */
  readonly #encryptKey: KeyObject;
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
    this.#encryptKey = createSecretKey(material.encrypt);
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

  /**
   * Encrypts and authenticates under a fresh random IV, to the front of `target`, which has room for
   * `plaintext.length + sealOverheadBytes`. Returns the bytes written.
   */
  sealInto(target: Buffer, plaintext: Uint8Array): number {
    const iv = randomIv();
    target.set(iv);
    const cipher = createCipheriv('aes-256-ctr', this.#encryptKey, iv);
    let end = ivBytes;
    for (const piece of pieces(plaintext)) {
      const encrypted = cipher.update(piece);
      target.set(encrypted, end);
      end += encrypted.length;
      freeBuffer(encrypted);
    }
    const tag = target.subarray(end, end + tagBytes);
    sodium.crypto_onetimeauth(tag, target.subarray(ivBytes, end), this.#oneTimeKey(iv));
    return end + tagBytes;
  }

  /** As {@link sealInto}, in a new buffer. */
  seal(plaintext: Uint8Array): Buffer {
    const sealed = Buffer.allocUnsafe(plaintext.length + sealOverheadBytes);
    this.sealInto(sealed, plaintext);
    return sealed;
  }

  /**
   * Authenticates, then decrypts.
   * @param what names the sealed text in the error, such as `index 1a2b…`
   * @throws CorruptionError when the bytes are not what this key sealed
   */
  open(sealed: Uint8Array, what: string): Buffer {
    const plaintext = this.tryOpen(sealed);
    if (!plaintext) throw changed(what);
    return plaintext;
  }

  /** As {@link open}, but undefined when authentication fails: a password may simply be the wrong one. */
  tryOpen(sealed: Uint8Array): Buffer | undefined {
    const authentic = this.#authenticate(sealed);
    return authentic && authentic.decipher.update(authentic.ciphertext);
  }

  /**
   * As {@link open}, piece by piece for whoever needs no more at a time. All is authenticated before the first.
   * @throws CorruptionError when the bytes are not what this key sealed
   */
  *openPieces(sealed: Uint8Array, what: string): Generator<Buffer, void> {
    const authentic = this.#authenticate(sealed);
    if (!authentic) throw changed(what);
    for (const piece of pieces(authentic.ciphertext)) yield authentic.decipher.update(piece);
  }

  #authenticate(
    sealed: Uint8Array,
  ): { readonly ciphertext: Buffer; readonly decipher: Decipheriv } | undefined {
    if (sealed.length < sealOverheadBytes) return undefined;
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.length);
    const iv = bytes.subarray(0, ivBytes);
    if (isZero(iv)) return undefined;
    const ciphertext = bytes.subarray(ivBytes, bytes.length - tagBytes);
    const tag = bytes.subarray(bytes.length - tagBytes);
    if (!sodium.crypto_onetimeauth_verify(tag, ciphertext, this.#oneTimeKey(iv))) return undefined;
    return { ciphertext, decipher: createDecipheriv('aes-256-ctr', this.#encryptKey, iv) };
  }

  #oneTimeKey(iv: Uint8Array): Buffer {
    return Buffer.concat([this.#maskedR, this.#macCipher.update(iv)]);
  }
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

const changed = (what: string): CorruptionError =>
  new CorruptionError(`Authentication of ${what} failed: its bytes were changed`);

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
