import { fstatSync, read, readSync, type BigIntStats } from 'node:fs';
import { promisify } from 'node:util';
import { throwIfAborted } from '../../../model/abort.ts';
import { nextData } from '../../../disk/posix/index.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';

const readAside = promisify(read);

export const readBufferBytes = 1 << 20;
/** Up to here another thread costs more than it saves. */
const readAtOnceBytes = 128 << 10;

/** Reading a file failed, not writing it. */
export class ReadError extends TarsError {}
/** A file was another after it had been read. */
export class ChangedError extends Error {}

/** The {@link ReadError} or {@link ChangedError} that a sink may have wrapped. */
export function causeOf<T extends Error>(error: unknown, type: new (...args: never[]) => T): T | undefined {
  if (error instanceof type) return error;
  return error instanceof Error && error.cause !== undefined ? causeOf(error.cause, type) : undefined;
}

/** A file's bytes up to the length it had at first. Holes are not read. */
export class FileBody {
  hasChanged = false;
  readonly #descriptor: number;
  readonly #about: string;
  readonly #before: BigIntStats;
  readonly #mayChange: boolean;
  readonly #signal: AbortSignal;

  constructor(
    descriptor: number,
    about: string,
    before: BigIntStats,
    mayChange: boolean,
    signal: AbortSignal,
  ) {
    this.#descriptor = descriptor;
    this.#about = about;
    this.#before = before;
    this.#mayChange = mayChange;
    this.#signal = signal;
  }

  /** @throws ChangedError after the last byte when the file is another by then and must not be */
  async *bytes(): Bytes {
    const { size, blocks, mtimeNs, ctimeNs } = this.#before;
    try {
      if (blocks * 512n < size) yield* this.#sparse(Number(size));
      else yield* this.#stretch(0, Number(size));
      const now = fstatSync(this.#descriptor, { bigint: true });
      this.hasChanged = now.size !== size || now.mtimeNs !== mtimeNs || now.ctimeNs !== ctimeNs;
    } catch (error) {
      throwIfAborted(this.#signal);
      const { code, message } = toTarsError(error, `Cannot read ${this.#about}`);
      throw new ReadError(code, message, { cause: error });
    }
    if (this.hasChanged && !this.#mayChange)
      throw new ChangedError(`${this.#about} changed while it was read`);
  }

  async *#sparse(sizeBytes: number): Bytes {
    for (let position = 0; position < sizeBytes;) {
      const data = nextData(this.#descriptor, position, sizeBytes) ?? { start: sizeBytes, end: sizeBytes };
      for (; position < data.start; position += readBufferBytes) {
        throwIfAborted(this.#signal);
        // Of its own, as whoever takes it may give it away.
        yield Buffer.alloc(Math.min(readBufferBytes, data.start - position));
      }
      yield* this.#stretch(data.start, data.end);
      position = data.end;
    }
  }

  async *#stretch(start: number, end: number): Bytes {
    for (let position = start; position < end;) {
      throwIfAborted(this.#signal);
      const buffer = Buffer.allocUnsafeSlow(Math.min(readBufferBytes, end - position));
      const bytesRead = await this.#read(buffer, position);
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async #read(buffer: Buffer, position: number): Promise<number> {
    if (buffer.length <= readAtOnceBytes)
      return readSync(this.#descriptor, buffer, 0, buffer.length, position);
    return (await readAside(this.#descriptor, buffer, 0, buffer.length, position)).bytesRead;
  }
}
