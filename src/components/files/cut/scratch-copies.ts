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

const bufferBytes = 1 << 20;
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
  /** Copied or cloned so far. */
  doneBytes = 0;

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
      this.doneBytes += dataBytes;
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
    this.doneBytes += dataBytes;
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
    limits: CopyLimits,
  ): Promise<boolean> {
    const startedMs = this.#clock.monotonicMs();
    let doneBytes = 0;
    for (let position = 0; position < sizeBytes;) {
      const data = isSparse ? nextData(source, position, sizeBytes) : { start: position, end: sizeBytes };
      if (data === undefined) break;
      const stretch = { source, target, ...data };
      if (sizeBytes <= copyAtOnceBytes) this.#copyAtOnce(stretch);
      else if (!(await this.#copyAside(stretch, limits))) return false;
      position = data.end;
      doneBytes += data.end - data.start;
    }
    // A hole at the end.
    if (isSparse) ftruncateSync(target, sizeBytes);
    if (doneBytes >= measuredBytes)
      this.#bytesPerMs = doneBytes / Math.max(1, this.#clock.monotonicMs() - startedMs);
    return true;
  }

  #copyAtOnce({ source, target, start, end }: Stretch): void {
    for (let position = start; position < end;) {
      const bytesRead = readSync(source, this.#small, 0, end - position, position);
      // It became shorter meanwhile, which its stats tell.
      if (bytesRead === 0) return;
      for (let at = 0; at < bytesRead;)
        at += writeSync(target, this.#small, at, bytesRead - at, position + at);
      position += bytesRead;
    }
  }

  /** In pieces, on two threads: memory is what it waits for. */
  async #copyAside(
    { source, target, start, end }: Stretch,
    { signal, deadlineMs = Infinity }: CopyLimits,
  ): Promise<boolean> {
    let next = start;
    let isInTime = true;
    const lane = async (): Promise<void> => {
      const buffer = Buffer.allocUnsafeSlow(Math.min(bufferBytes, end - start));
      while (isInTime && next < end) {
        throwIfAborted(signal);
        if (this.#clock.monotonicMs() > deadlineMs) isInTime = false;
        const piece = { source, target, start: next, end: Math.min(next + buffer.length, end) };
        next = piece.end;
        await copyPiece(piece, buffer);
      }
    };
    const lanes = await Promise.allSettled([lane(), lane()]);
    for (const done of lanes) if (done.status === 'rejected') throw done.reason;
    return isInTime;
  }
}

/** Bytes of a file that are not a hole. */
interface Stretch {
  readonly source: number;
  readonly target: number;
  readonly start: number;
  readonly end: number;
}

async function copyPiece({ source, target, start, end }: Stretch, buffer: Buffer): Promise<void> {
  for (let position = start; position < end;) {
    const { bytesRead } = await readAside(source, buffer, 0, end - position, position);
    if (bytesRead === 0) return;
    for (let at = 0; at < bytesRead;)
      at += (await writeAside(target, buffer, at, bytesRead - at, position + at)).bytesWritten;
    position += bytesRead;
  }
}
