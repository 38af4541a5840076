import { constants } from 'node:fs';
import { decodeLossless, encodeLossless } from '../../model/byte-text.ts';
import { hasErrno, TarsError } from '../../model/errors.ts';
import { call, callAside, terminated, type SystemPath } from './libc.ts';

export type { SystemPath } from './libc.ts';

const atCwd = -100;
const noFollow = 0x100;

/** Sets both times, of a symbolic link itself where `path` is one. Nanoseconds since 1970, also before. @throws Error of the system */
export function setTimes(path: SystemPath, accessNs: bigint, modifiedNs: bigint): void {
  const times = new BigInt64Array([...timespec(accessNs), ...timespec(modifiedNs)]);
  call('utimensat', path, atCwd, terminated(path), times, noFollow);
}

const nsPerSecond = 1_000_000_000n;

/** Seconds are rounded down, as nanoseconds count upwards from them. */
function timespec(ns: bigint): readonly [bigint, bigint] {
  const rest = ((ns % nsPerSecond) + nsPerSecond) % nsPerSecond;
  return [(ns - rest) / nsPerSecond, rest];
}

/** An extended attribute; bytes of its name that are not UTF-8 stand as in model/byte-text.ts. */
interface Extended {
  readonly name: string;
  readonly value: Uint8Array;
}

/** What the kernel allows for all names together, and for one value. */
const scratch = Buffer.allocUnsafeSlow(65_536);

/** All that `path` has and this user may see, sorted by name; a link is not followed. @throws Error of the system */
export function readExtended(path: SystemPath): readonly Extended[] {
  const at = terminated(path);
  let length: number;
  try {
    length = call('llistxattr', path, at, scratch, scratch.length);
  } catch (error) {
    if (isUnsupported(error)) return [];
    throw error;
  }
  if (length === 0) return [];
  // Each ends with a NUL.
  const names = scratch
    .toString('latin1', 0, length - 1)
    .split('\0')
    .sort();
  return names.flatMap((latin1) => {
    const name = Buffer.from(latin1, 'latin1');
    const value = valueOf(path, at, name);
    return value === undefined ? [] : [{ name: decodeLossless(name), value }];
  });
}

function valueOf(path: SystemPath, at: Buffer, name: Buffer): Uint8Array | undefined {
  try {
    const length = call('lgetxattr', path, at, terminated(name), scratch, scratch.length);
    return new Uint8Array(scratch.subarray(0, length));
  } catch (error) {
    // Removed since the list was read, or one that only lists.
    if (hasErrno(error, 'ENODATA') || isUnsupported(error)) return undefined;
    throw error;
  }
}

/** Of the path itself, also where it is a link. @throws Error of the system */
export function setExtended(path: SystemPath, { name, value }: Extended): void {
  const bytes = value.length === 0 ? Buffer.alloc(1) : value;
  const at = terminated(path);
  call('lsetxattr', path, at, terminated(encodeLossless(name)), bytes, value.length, 0);
}

/** Harmless where there is none of that name. @throws Error of the system */
export function removeExtended(path: SystemPath, name: string): void {
  try {
    call('lremovexattr', path, terminated(path), terminated(encodeLossless(name)));
  } catch (error) {
    if (!hasErrno(error, 'ENODATA') && !isUnsupported(error)) throw error;
  }
}

/** True when the file system does not have what was asked of it. */
export const isUnsupported = (error: unknown): boolean =>
  hasErrno(error, 'ENOTSUP') || hasErrno(error, 'EOPNOTSUPP');

const seekData = 3;
const seekHole = 4;

/** Where the next bytes that are not a hole begin and end, from `offset` on; undefined when only a hole follows. */
export function nextData(
  descriptor: number,
  offset: number,
  sizeBytes: number,
): { readonly start: number; readonly end: number } | undefined {
  if (offset >= sizeBytes) return undefined;
  try {
    const start = call('lseek', undefined, descriptor, offset, seekData);
    return { start, end: Math.min(call('lseek', undefined, descriptor, start, seekHole), sizeBytes) };
  } catch (error) {
    if (hasErrno(error, 'ENXIO')) return undefined;
    // A file system that knows of no holes.
    if (hasErrno(error, 'EINVAL') || isUnsupported(error)) return { start: offset, end: sizeBytes };
    throw error;
  }
}

const makeNodeNumbers: Readonly<Record<string, number>> = { x64: 259, arm64: 33 };
const nodeTypes = {
  fifo: constants.S_IFIFO,
  'character-device': constants.S_IFCHR,
  'block-device': constants.S_IFBLK,
} as const;

/** Creates a named pipe or a device, with mode 0600. @param device `st_rdev` @throws Error of the system */
export function makeNode(path: SystemPath, type: keyof typeof nodeTypes, device = 0n): void {
  const number = makeNodeNumbers[process.arch];
  if (number === undefined)
    throw new TarsError('unsupported-version', `tars cannot create a ${type} on ${process.arch}`);
  call('syscall', path, number, atCwd, terminated(path), nodeTypes[type] | 0o600, device);
}

/** Writes all of the file system that the descriptor is on to its disk. @throws Error */
export const syncFileSystem = (descriptor: number): Promise<void> => callAside('syncfs', descriptor);
