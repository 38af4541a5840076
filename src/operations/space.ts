import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrno, TarsError } from '../model/errors.ts';

/** Room needed beside live data. */
interface SpaceNeed {
  readonly path: string;
  readonly sizeBytes: number;
}

/** Adds up what is needed on each file system. @throws TarsError `no-space` */
export async function requireSpace(needs: readonly SpaceNeed[]): Promise<void> {
  const byDevice = new Map<number, SpaceNeed>();
  for (const { path, sizeBytes } of needs) {
    const existing = await nearestExisting(path);
    const { dev } = await stat(existing);
    const before = byDevice.get(dev) ?? { path: existing, sizeBytes: 0 };
    byDevice.set(dev, { ...before, sizeBytes: before.sizeBytes + sizeBytes });
  }
  for (const { path, sizeBytes } of byDevice.values()) {
    const { bavail, bsize } = await statfs(path);
    if (sizeBytes <= bavail * bsize) continue;
    throw new TarsError(
      'no-space',
      `The restore needs ${sizeBytes} bytes beside ${path}, ${bavail * bsize} are free`,
      { hint: 'Free space there: the previous data stays until you delete it. Nothing was changed.' },
    );
  }
}

/** Bytes that may still be written at `path`, or where it would be created. @throws an error of the system */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(await nearestExisting(path));
  return bavail * bsize;
}

/** `path`, or of the directories above it the first that is there. @throws an error of the system */
export async function nearestExisting(path: string): Promise<string> {
  for (let candidate = path; ; candidate = dirname(candidate)) {
    try {
      await stat(candidate);
      return candidate;
    } catch (error) {
      if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTDIR')) throw error;
      if (dirname(candidate) === candidate) throw error;
    }
  }
}
