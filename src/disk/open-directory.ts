import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  type BigIntStats,
} from 'node:fs';
import { link, mkdir, rename, rmdir, symlink, unlink } from 'node:fs/promises';
import { decodeLossless, encodeLossless } from '../model/byte-text.ts';
import { hasErrno, TarsError } from '../model/errors.ts';
import type { SystemPath } from './posix/index.ts';
import { syncDescriptor } from './sync.ts';

/** Opens for nothing but steps from there on; needs no right to read. The same number on x64 and arm64. */
const pathOnly = 0x20_0000;

/**
 * A directory that is held open, whatever becomes of its path. Every step from it takes one name of an entry, relative
 * to the descriptor, and follows no symbolic link: nobody who may write in there leads such a step elsewhere. Names are
 * strings as model/byte-text.ts has them. Calls that do not wait for a disk's data are synchronous: there are many.
 */
export class OpenDirectory implements Disposable {
  readonly descriptor: number;
  #isClosed = false;

  private constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /** Opens a path that nobody but root and this user can lead elsewhere; see open-path.ts for any other. */
  static open(path: string, access: 'read' | 'path' = 'read'): OpenDirectory {
    return new OpenDirectory(openSync(path, directoryFlags(access)));
  }

  /** The path of an entry from here, for calls of the system in this process; the directory itself for `.`. */
  at(name: string): SystemPath {
    if (name === '' || name === '..' || name.includes('/') || name.includes('\0'))
      throw new TarsError('internal', `${JSON.stringify(name)} is not the name of an entry`);
    const path = `/proc/self/fd/${this.descriptor}/`;
    if (name.isWellFormed()) return path + name;
    return Buffer.concat([Buffer.from(path), encodeLossless(name)]);
  }

  /** Of the directory itself. */
  stat(): BigIntStats {
    return fstatSync(this.descriptor, { bigint: true });
  }

  /** Of an entry; undefined when it is not there. @throws Error of the system */
  lstat(name: string): BigIntStats | undefined {
    return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
  }

  /** Of all entries, in the order of their bytes. @throws Error of the system */
  names(): string[] {
    // One character for each byte takes little memory, and sorts as bytes do.
    const names = readdirSync(`/proc/self/fd/${this.descriptor}/.`, { encoding: 'latin1' }).sort();
    return names.map((name) =>
      /^[\0-\x7f]*$/.test(name) ? name : decodeLossless(Buffer.from(name, 'latin1')),
    );
  }

  /** @throws Error of the system: ENOTDIR or ELOOP when the entry is no directory (any more) */
  openDirectory(name: string, access: 'read' | 'path' = 'read'): OpenDirectory {
    return new OpenDirectory(openSync(this.at(name), directoryFlags(access)));
  }

  /** @param flags besides O_NOFOLLOW @returns a descriptor for the caller to close @throws Error of the system */
  openFile(name: string, flags: number, mode = 0o600): number {
    return openSync(this.at(name), flags | constants.O_NOFOLLOW, mode);
  }

  /** Where a symbolic link leads. */
  readlink(name: string): string {
    return decodeLossless(readlinkSync(this.at(name), { encoding: 'buffer' }));
  }

  /** Creates a directory of this user and opens it. @throws Error of the system; EEXIST when somebody else was faster */
  async createDirectory(name: string, mode = 0o700): Promise<OpenDirectory> {
    await mkdir(this.at(name), { mode });
    const created = this.openDirectory(name);
    const { uid } = created.stat();
    if (isThisUser(uid)) return created;
    created.close();
    throw new TarsError('access-denied', `${name} was replaced by user ${uid} right when it was created`);
  }

  /** True when nobody but this user and root can have put anything in it. */
  get isPrivate(): boolean {
    const { uid, mode } = this.stat();
    return isThisUser(uid) && (mode & 0o077n) === 0n;
  }

  symlink(name: string, target: string): Promise<void> {
    return symlink(target.isWellFormed() ? target : encodeLossless(target), this.at(name));
  }

  /** One more name, in `to`, of the file that `name` is. */
  link(name: string, to: OpenDirectory, newName: string): Promise<void> {
    return link(this.at(name), to.at(newName));
  }

  rename(name: string, to: OpenDirectory, newName: string): Promise<void> {
    return rename(this.at(name), to.at(newName));
  }

  unlink(name: string): Promise<void> {
    return unlink(this.at(name));
  }

  rmdir(name: string): Promise<void> {
    return rmdir(this.at(name));
  }

  /** Makes what was created, renamed and removed in it survive a power cut. It must be open for reading. */
  sync(): Promise<void> {
    return syncDescriptor(this.descriptor);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const directoryFlags = (access: 'read' | 'path'): number =>
  constants.O_DIRECTORY | constants.O_NOFOLLOW | (access === 'read' ? constants.O_RDONLY : pathOnly);

const isThisUser = (uid: bigint): boolean =>
  process.geteuid === undefined || Number(uid) === process.geteuid();

/** True when both are the same file, whatever its name. */
export const isSameFile = (
  a: Pick<BigIntStats, 'dev' | 'ino'> | undefined,
  b: Pick<BigIntStats, 'dev' | 'ino'>,
): boolean => a?.dev === b.dev && a.ino === b.ino;

/** True when an entry was something else, or nothing, by the time it was opened. */
export const wasReplaced = (error: unknown): boolean =>
  hasErrno(error, 'ENOTDIR') || hasErrno(error, 'ELOOP') || hasErrno(error, 'ENXIO');
