import { stat } from 'node:fs/promises';
import { freeBytes, nearestExisting } from '../disk/space.ts';
import { TarsError } from '../model/errors.ts';

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
    const free = await freeBytes(path);
    if (sizeBytes <= free) continue;
    throw new TarsError('no-space', `The restore needs ${sizeBytes} bytes beside ${path}, ${free} are free`, {
      hint: 'Free space there: the previous data stays until you delete it. Nothing was changed.',
    });
  }
}
