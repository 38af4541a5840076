import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createDurably } from '../disk/durable-file.ts';
import { CorruptionError, hasErrno, TarsError, toTarsError } from '../model/errors.ts';

/** The checksum beside an archive, in the format of `sha256sum -c`. */
export const checksumPath = (archive: string): string => `${archive}.sha256`;

/**
 * Writes the checksum of `archive` durably, before the archive itself appears under its name. Creating it
 * exclusively is also the claim to that name.
 * @throws TarsError `storage-exists` when another run has the name
 */
export async function writeChecksum(archive: string, sha256: string): Promise<void> {
  const path = checksumPath(archive);
  try {
    await createDurably(path, `${sha256}  ${basename(archive)}\n`);
  } catch (cause) {
    if (!hasErrno(cause, 'EEXIST')) throw toTarsError(cause, `Cannot write ${path}`);
    throw new TarsError('storage-exists', `Another archive is already called ${basename(archive)}`, {
      hint: 'Run the backup again; the name carries the time to the second.',
      cause,
    });
  }
}

/** The content of a checksum file; empty when it is not one. */
interface WrittenChecksum {
  readonly expected?: string | undefined;
  /** The file it is for. */
  readonly named?: string | undefined;
}

/** @throws Error of the system when it cannot be read */
export async function readChecksum(path: string): Promise<WrittenChecksum> {
  const line = await readFile(path, 'latin1');
  const [, expected, named] = /^([0-9a-f]{64}) [ *]([^\n]+)\n?$/.exec(line) ?? [];
  return { expected, named };
}

/**
 * Compares the archive with the checksum beside it; resolves with an error when they differ. An archive that was
 * renamed together with its checksum still matches.
 */
export async function compareChecksum(
  archive: string,
  signal: AbortSignal,
): Promise<'matches' | 'missing' | CorruptionError> {
  const path = checksumPath(archive);
  let checksum: WrittenChecksum;
  try {
    checksum = await readChecksum(path);
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return 'missing';
    throw toTarsError(cause, `Cannot read ${path}`);
  }
  const { expected, named } = checksum;
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(archive, { highWaterMark: 1 << 20, signal })) {
      hash.update(chunk as Uint8Array);
    }
  } catch (cause) {
    throw toTarsError(cause, `Cannot read ${archive}`);
  }
  return hash.digest('hex') === expected ? 'matches' : checksumError(archive, named);
}

function checksumError(archive: string, named: string | undefined): CorruptionError {
  const what = `${archive} does not match the checksum in ${basename(checksumPath(archive))}`;
  if (named !== undefined && named !== basename(archive)) {
    return new CorruptionError(`${what}, which is for ${named}`, {
      hint: 'Put the .sha256 of this archive beside it, or use another copy of both.',
    });
  }
  return new CorruptionError(what, {
    hint: 'The archive or its .sha256 is damaged: use another copy, or another backup.',
  });
}
