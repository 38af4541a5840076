import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Readable, type Duplex } from 'node:stream';
import { syncWhereSupported } from '../disk/sync.ts';
import { TarsError, toTarsError } from '../model/errors.ts';
import type { Bytes } from '../ports/artifacts.ts';

/**
 * A file that grows by whole members, keeping the SHA-256 of its content. A member whose source fails is cut off
 * again, so the file is always a sequence of complete members; when the file itself fails, it stays failed.
 */
export class MemberFile {
  readonly path: string;
  readonly #handle: Awaited<ReturnType<typeof open>>;
  #hash = createHash('sha256');
  #sizeBytes = 0;
  #failure: TarsError | undefined;

  private constructor(path: string, handle: Awaited<ReturnType<typeof open>>) {
    this.path = path;
    this.#handle = handle;
  }

  /** Creates the file (0600). @throws TarsError `storage-exists` when there is one */
  static async create(path: string): Promise<MemberFile> {
    try {
      return new MemberFile(path, await open(path, 'wx', 0o600));
    } catch (cause) {
      throw toTarsError(cause, `Cannot create ${path}`);
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Appends `source`, passed through `transform`. Not to be called concurrently. */
  async append(source: Bytes, transform: Duplex, signal: AbortSignal): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const [startBytes, startHash] = [this.#sizeBytes, this.#hash.copy()];
    const take = async (chunks: Bytes): Promise<void> => {
      for await (const chunk of chunks) await this.#write(chunk);
    };
    try {
      await pipeline(Readable.from(source, { objectMode: false }), transform, take, { signal });
    } catch (error) {
      await this.#cutBack(startBytes, startHash);
      throw (this.#failure as TarsError | undefined) ?? error;
    }
  }

  async #write(chunk: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < chunk.length;) {
        const { bytesWritten } = await this.#handle.write(chunk, at, chunk.length - at, this.#sizeBytes);
        this.#hash.update(chunk.subarray(at, at + bytesWritten));
        at += bytesWritten;
        this.#sizeBytes += bytesWritten;
      }
    } catch (cause) {
      this.#failure = toTarsError(cause, `Cannot write ${this.path}`);
      throw this.#failure;
    }
  }

  async #cutBack(sizeBytes: number, hash: ReturnType<typeof createHash>): Promise<void> {
    this.#hash = hash;
    this.#sizeBytes = sizeBytes;
    try {
      await this.#handle.truncate(sizeBytes);
    } catch (cause) {
      this.#failure ??= toTarsError(cause, `Cannot write ${this.path}`);
    }
  }

  /** Makes the content durable and returns its SHA-256. */
  async seal(): Promise<string> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      await syncWhereSupported(this.#handle);
    } catch (cause) {
      this.#failure = toTarsError(cause, `Cannot write ${this.path}`);
      throw this.#failure;
    }
    return this.#hash.copy().digest('hex');
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
