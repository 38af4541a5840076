import { createHash, hash, type Hash } from 'node:crypto';

const scratchBytes = 1 << 16;
const prefixBytes = 8;

/**
 * SHA-256 over a sequence of parts, each preceded by its length (8 bytes, little-endian), so that no two different
 * sequences feed the hash the same bytes. Small inputs are gathered and hashed in one call, which is several times
 * faster than a Hash object for each; large ones stream.
 */
export class PartHasher {
  readonly #scratch = Buffer.allocUnsafe(scratchBytes);
  #filled = 0;
  #streaming: Hash | undefined;

  part(bytes: Uint8Array): void {
    this.beginPart(bytes.length);
    this.continuePart(bytes);
  }

  text(value: string): void {
    this.part(Buffer.from(value, 'utf8'));
  }

  /** An unsigned or signed 64-bit number as one part. */
  integer(value: bigint): void {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    this.part(bytes);
  }

  /** Announces a part of that length; its bytes follow through {@link continuePart}. */
  beginPart(sizeBytes: number): void {
    if (this.#filled + prefixBytes > scratchBytes) this.#spill();
    this.#scratch.writeUInt32LE(sizeBytes % 2 ** 32, this.#filled);
    this.#scratch.writeUInt32LE(Math.floor(sizeBytes / 2 ** 32), this.#filled + 4);
    this.#filled += prefixBytes;
  }

  continuePart(bytes: Uint8Array): void {
    if (this.#filled + bytes.length > scratchBytes) this.#spill();
    if (bytes.length > scratchBytes) {
      this.#streaming?.update(bytes);
      return;
    }
    this.#scratch.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** The digest of all parts since the last call; the hasher is empty afterwards. */
  finish(): Buffer {
    const rest = this.#scratch.subarray(0, this.#filled);
    const digest =
      this.#streaming === undefined ? hash('sha256', rest, 'buffer') : this.#streaming.update(rest).digest();
    this.#filled = 0;
    this.#streaming = undefined;
    return digest;
  }

  #spill(): void {
    this.#streaming ??= createHash('sha256');
    this.#streaming.update(this.#scratch.subarray(0, this.#filled));
    this.#filled = 0;
  }
}

const lanes = 8;
/** A lane gains at most 2^32 per addition and stays exact up to 2^53. */
const additionsBeforeCarry = 2 ** 20;

/** The sum of SHA-256 digests as 256-bit numbers, modulo 2^256: the same whatever the order of addition. */
export class DigestSum {
  readonly #lanes = new Float64Array(lanes);
  #sinceCarry = 0;
  /** Digests added. */
  count = 0;

  add(digest: Buffer): void {
    for (let i = 0; i < lanes; i++) {
      this.#lanes[i] = (this.#lanes[i] as number) + digest.readUInt32LE(i * 4);
    }
    this.count++;
    if (++this.#sinceCarry >= additionsBeforeCarry) this.#carry();
  }

  /** 32 bytes. */
  value(): Buffer {
    this.#carry();
    const bytes = Buffer.allocUnsafe(lanes * 4);
    this.#lanes.forEach((lane, i) => bytes.writeUInt32LE(lane, i * 4));
    return bytes;
  }

  reset(): void {
    this.#lanes.fill(0);
    this.#sinceCarry = 0;
    this.count = 0;
  }

  #carry(): void {
    let carried = 0;
    for (let i = 0; i < lanes; i++) {
      const sum = (this.#lanes[i] as number) + carried;
      carried = Math.floor(sum / 2 ** 32);
      this.#lanes[i] = sum % 2 ** 32;
    }
    this.#sinceCarry = 0;
  }
}
