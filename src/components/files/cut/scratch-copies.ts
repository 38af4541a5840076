import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readSync,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { throwIfAborted } from '../../../model/abort.ts';
import { freeBytes } from '../../../disk/space.ts';
import { nextData } from '../../../disk/posix/index.ts';
import { hasErrno } from '../../../model/errors.ts';
import type { Clock } from '../../../ports/context.ts';
import { diskBytesOf } from '../tree/entry.ts';

const readAside = promisify(read);
const writeAside = promisify(write);

const bufferBytes = 4 << 20;
/** Up to here another thread, or a clone, costs more than it saves. */
const copyAtOnceBytes = 128 << 10;
/** Left free in the scratch directory. */
const reserveBytes = 64 << 20;
/** What a copy is taken for before any was measured. */
const firstBytesPerMs = 150_000;
/** Smaller copies tell nothing of the speed of larger ones. */
const measuredBytes = 1 << 20;

/** How much may still be copied. */
export interface CopyLimits {
  readonly signal: AbortSignal;
  /** On the clock; nothing is begun that would probably take longer. Absent: as long as it takes. */
  readonly deadlineMs?: number;
}

/** Copies of files in a private directory: clones, where the file system shares blocks between files. */
export class ScratchCopies {
  readonly #directory: string;
  readonly #clock: Clock;
  /** By device: whether files there can be cloned into the directory. */
  readonly #clones = new Map<bigint, boolean>();
  #spaceBytes = 0;
  #bytesPerMs = firstBytesPerMs;
  #count = 0;
  readonly #small = Buffer.allocUnsafeSlow(copyAtOnceBytes);
  copiedBytes = 0;
  clonedBytes = 0;

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  path(name: string): string {
    return join(this.#directory, name);
  }

  /** A new name. */
  name(): string {
    return `copy-${++this.#count}`;
  }

  remove(name: string): void {
    rmSync(this.path(name), { force: true });
  }

  /** Asks how much room there is: before many copies, as it is not asked again. */
  async measureSpace(): Promise<void> {
    this.#spaceBytes = Math.max(0, (await freeBytes(this.#directory)) - reserveBytes);
  }

  /**
   * Copies an open file, holes as holes. @returns its name, or undefined when there is no time or no room for it
   * @throws Error of the system when it cannot be read
   */
  async copy(descriptor: number, limits: CopyLimits): Promise<string | undefined> {
    const stats = fstatSync(descriptor, { bigint: true });
    const sizeBytes = Number(stats.size);
    const dataBytes = diskBytesOf(stats);
    const name = this.name();
    if (sizeBytes > copyAtOnceBytes && (await this.#clone(descriptor, stats.dev, name))) {
      this.clonedBytes += dataBytes;
      return name;
    }
    if (!this.#fits(dataBytes, limits)) return undefined;
    const target = openSync(this.path(name), 'wx', 0o600);
    let isWhole = false;
    try {
      isWhole = await this.#copyInto(target, descriptor, sizeBytes, dataBytes < sizeBytes, limits);
    } catch (error) {
      if (!hasErrno(error, 'ENOSPC') && !hasErrno(error, 'EDQUOT')) throw error;
    } finally {
      closeSync(target);
      if (!isWhole) this.remove(name);
    }
    if (!isWhole) return undefined;
    this.copiedBytes += dataBytes;
    this.#spaceBytes -= dataBytes;
    return name;
  }

  #fits(dataBytes: number, { deadlineMs }: CopyLimits): boolean {
    if (dataBytes > this.#spaceBytes) return false;
    return deadlineMs === undefined || this.#clock.monotonicMs() + dataBytes / this.#bytesPerMs <= deadlineMs;
  }

  /** False where that is not possible. */
  async #clone(descriptor: number, device: bigint, name: string): Promise<boolean> {
    if (this.#clones.get(device) === false) return false;
    try {
      await copyFile(`/proc/self/fd/${descriptor}`, this.path(name), constants.COPYFILE_FICLONE_FORCE);
      this.#clones.set(device, true);
      return true;
    } catch {
      // Another file system, or one without clones. What else is wrong is found when the file is read.
      this.remove(name);
      this.#clones.set(device, false);
      return false;
    }
  }

  /** False when the time was over before. */
  async #copyInto(
    target: number,
    source: number,
    sizeBytes: number,
    isSparse: boolean,
    { signal, deadlineMs = Infinity }: CopyLimits,
  ): Promise<boolean> {
    const startedMs = this.#clock.monotonicMs();
    const isSmall = sizeBytes <= copyAtOnceBytes;
    const buffer = isSmall ? this.#small : Buffer.allocUnsafeSlow(bufferBytes);
    let doneBytes = 0;
    for (let position = 0; position < sizeBytes;) {
      const data = isSparse ? nextData(source, position, sizeBytes) : { start: position, end: sizeBytes };
      if (data === undefined) break;
      for (position = data.start; position < data.end;) {
        throwIfAborted(signal);
        if (this.#clock.monotonicMs() > deadlineMs) return false;
        const length = Math.min(buffer.length, data.end - position);
        const bytesRead = isSmall
          ? readSync(source, buffer, 0, length, position)
          : (await readAside(source, buffer, 0, length, position)).bytesRead;
        // It became shorter meanwhile, which its stats tell.
        if (bytesRead === 0) return true;
        await writeAll(target, buffer.subarray(0, bytesRead), position, isSmall);
        position += bytesRead;
        doneBytes += bytesRead;
      }
    }
    // A hole at the end.
    if (isSparse) ftruncateSync(target, sizeBytes);
    if (doneBytes >= measuredBytes)
      this.#bytesPerMs = doneBytes / Math.max(1, this.#clock.monotonicMs() - startedMs);
    return true;
  }
}

async function writeAll(target: number, bytes: Buffer, position: number, isSmall: boolean): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const left = bytes.length - at;
    at += isSmall
      ? writeSync(target, bytes, at, left, position + at)
      : (await writeAside(target, bytes, at, left, position + at)).bytesWritten;
  }
}
