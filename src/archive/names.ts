import { encodeLossless } from '../model/byte-text.ts';
import { CorruptionError, TarsError } from '../model/errors.ts';
import { pathMaxBytes } from '../model/limits.ts';

/** The folder all entries of an archive lie under, which is also the archive's base name: UTC, to the second. */
export function archiveRoot(time: Date): string {
  const digits = time.toISOString().replaceAll(/[-:]/g, '').slice(0, 15).replace('T', '_');
  return `tars-backup-${digits}`;
}

const rootMaxBytes = 64;
const rootPattern = /^tars-backup-\d{8}_\d{6}$/;

/** True when `path` is relative, normal and stays below its root whatever it is joined to. */
function isSafePath(path: string): boolean {
  return (
    path !== '' &&
    !path.includes('\0') &&
    encodeLossless(path).length <= pathMaxBytes &&
    path.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..')
  );
}

/** @throws TarsError `internal` when a component asks for a path that no archive may hold */
export function requireArtifactPath(path: string): void {
  // The root's name comes before it.
  if (encodeLossless(path).length + rootMaxBytes > pathMaxBytes) {
    throw new TarsError(
      'capture-failed',
      `The path ${path.slice(0, 100)}… is longer than an archive can hold: ${pathMaxBytes - rootMaxBytes} bytes`,
      { hint: 'Move it to a shorter path, or exclude it.' },
    );
  }
  if (!isSafePath(path))
    throw new TarsError('internal', `Not a path inside an archive: ${JSON.stringify(path)}`);
}

/**
 * Splits an entry's stored name into the archive's root and the path below it (empty for the root itself).
 * @throws CorruptionError for absolute names and names that climb
 */
export function splitEntryName(name: string): { root: string; path: string } {
  const plain = name.endsWith('/') ? name.slice(0, -1) : name;
  const [root = '', ...rest] = plain.split('/');
  if (!isSafePath(plain) || !rootPattern.test(root)) {
    throw new CorruptionError(`The archive holds an entry at a forbidden place: ${JSON.stringify(name)}`, {
      hint: 'Do not restore from it unless you know who made it.',
    });
  }
  return { root, path: rest.join('/') };
}

/** Every folder above `path`, outermost first. */
export function parentsOf(path: string): string[] {
  const segments = path.split('/');
  return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join('/'));
}

/** Parents before children, siblings in byte order of names. */
export function comparePaths(a: string, b: string): number {
  const [left, right] = [a.split('/'), b.split('/')];
  for (const [index, segment] of left.entries()) {
    const other = right[index];
    if (other === undefined) return 1;
    const order = Buffer.compare(encodeLossless(segment), encodeLossless(other));
    if (order !== 0) return order;
  }
  return left.length - right.length;
}
