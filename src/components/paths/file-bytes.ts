import { createReadStream, type BigIntStats } from 'node:fs';
import { freeBytes } from '../../disk/space.ts';
import { TarsError, toTarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, Bytes, FileIdentity } from '../../ports/artifacts.ts';

const readBufferBytes = 1 << 20;

/** A file's bytes, in fresh buffers of up to 1 MiB. @throws TarsError naming the file */
export async function* fileBytes(path: string, signal: AbortSignal): Bytes {
  const stream = createReadStream(path, { highWaterMark: readBufferBytes, signal });
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw toTarsError(error, `Cannot read ${path}`);
  } finally {
    stream.destroy();
  }
}

/** What the snapshot keeps of a file's `lstat({ bigint: true })`. */
export function attributesOf(
  stats: Pick<BigIntStats, 'mode' | 'uid' | 'gid' | 'mtimeNs'>,
): ArtifactAttributes {
  return {
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    mtimeNs: stats.mtimeNs,
  };
}

/** What tells a file unchanged without reading it. */
export function identityOf(stats: Pick<BigIntStats, 'size' | 'mtimeNs' | 'ctimeNs' | 'ino'>): FileIdentity {
  return { sizeBytes: Number(stats.size), mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs, inode: stats.ino };
}

/** @throws TarsError `no-space` when `directory`'s file system cannot take `neededBytes` and a tenth more */
export async function requireSpace(directory: string, neededBytes: number, purpose: string): Promise<void> {
  const free = await freeBytes(directory);
  if (free < neededBytes * 1.1) {
    throw new TarsError(
      'no-space',
      `Not enough space in ${directory} for ${purpose}: ${neededBytes} bytes and 10 % more are needed, ${free} are free`,
      { hint: 'Free space there, or point scratch_dir in tars.yaml to a larger file system.' },
    );
  }
}
