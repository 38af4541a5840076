import { constants } from 'node:fs';
import { lstat, open, readdir, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { whenMissing } from '../disk/is-there.ts';
import { throwIfAborted } from '../model/abort.ts';
import { hasErrno, InterruptedError, TarsError, toTarsError } from '../model/errors.ts';
import type { Manifest } from '../model/manifest.ts';
import type { SnapshotSummary } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotRemoval, SnapshotShelf } from '../ports/snapshot-shelf.ts';
import { checksumPath, readChecksum } from './checksum-file.ts';
import { syncDirectory } from '../disk/sync.ts';
import type { ArchiveCompression } from './compression.ts';
import { readLastManifest } from './last-member.ts';
import { archiveSummary } from './summary.ts';

/** Names that {@link import('./write.ts').createArchiveDestination} gives. */
const namePattern = /^(tars-backup-\d{8}_\d{6})(\.tar(?:\.gz|\.zst)?)$/;
const compressionOf: Readonly<Record<string, ArchiveCompression>> = {
  '.tar.gz': 'gzip',
  '.tar.zst': 'zstd',
  '.tar': 'none',
};

/**
 * The portable archives in a directory. Archives are told by their names and their own manifests, which are read from
 * the files' ends; whatever else lies there is not touched: other files, links, archives that are damaged, renamed or
 * packed again, checksums of something else. Ids are file names.
 */
export function createArchiveShelf(directory: string): SnapshotShelf {
  return new ArchiveShelf(directory);
}

interface ShelvedArchive {
  readonly summary: SnapshotSummary;
  readonly manifest: Manifest;
}

class ArchiveShelf implements SnapshotShelf {
  readonly location: string;

  constructor(directory: string) {
    this.location = directory;
  }

  async list(ctx: OperationContext): Promise<readonly SnapshotSummary[]> {
    const archives: SnapshotSummary[] = [];
    for (const name of await this.#names()) {
      const archive = await this.#look(name, ctx);
      if (typeof archive === 'object') archives.push(archive.summary);
      else ctx.log.warn(`Skipped: ${join(this.location, name)} ${archive}`);
    }
    return archives.sort((a, b) => a.time.getTime() - b.time.getTime() || (a.id < b.id ? -1 : 1));
  }

  async *readManifests(ids: readonly string[], ctx: OperationContext): AsyncGenerator<Manifest> {
    for (const id of ids) yield (await this.#require(id, ctx)).manifest;
  }

  /** There is no lock: an archive that is being restored from stays readable to who has it open. */
  async removeSnapshots({ remove, relyOn }: SnapshotRemoval, ctx: OperationContext): Promise<void> {
    for (const id of relyOn) await this.#require(id, ctx);
    for (const [done, id] of remove.entries()) {
      try {
        throwIfAborted(ctx.signal);
        await this.#remove(id, ctx);
      } catch (error) {
        const cause = toTarsError(error, `Cannot remove ${join(this.location, id)}`);
        const progress = `${done} of ${remove.length} archives were removed`;
        if (cause.code === 'interrupted')
          throw new InterruptedError(`Interrupted after ${progress}`, { cause });
        const hint = cause.hint ?? 'The others are unchanged. Run the command again to remove them.';
        throw new TarsError(cause.code, `${cause.message}; ${progress}`, { hint, cause });
      }
    }
  }

  /**
   * The checksum first: cut off in between it leaves an archive that still proves itself by its manifest, and that the
   * next run removes. The other way round it would leave a checksum of something that seems to be lost.
   */
  async #remove(id: string, ctx: OperationContext): Promise<void> {
    const archive = join(this.location, id);
    if ((await lstat(archive).catch(whenMissing(undefined))) === undefined) return;
    await this.#require(id, ctx);
    await unlink(checksumPath(archive)).catch(whenMissing(undefined));
    await syncDirectory(this.location);
    await unlink(archive).catch(whenMissing(undefined));
    await syncDirectory(this.location);
    ctx.log.debug(`Removed ${archive}`);
  }

  async #names(): Promise<readonly string[]> {
    try {
      return (await readdir(this.location)).filter((name) => namePattern.test(name));
    } catch (cause) {
      throw toTarsError(cause, `Cannot list the archives in ${this.location}`);
    }
  }

  async #require(id: string, ctx: OperationContext): Promise<ShelvedArchive> {
    const archive = await this.#look(id, ctx);
    if (typeof archive === 'object') return archive;
    throw new TarsError('forget-refused', `The archive ${join(this.location, id)} ${archive}`, {
      hint: 'It has changed since the plan was made. Run the command again to make a new plan.',
    });
  }

  /** The archive of that name, or why it is not taken for one, as a clause. */
  async #look(name: string, ctx: OperationContext): Promise<ShelvedArchive | string> {
    const [, root = '', suffix = ''] = namePattern.exec(name) ?? [];
    const path = join(this.location, name);
    try {
      const strange = await strangeFile(path);
      if (strange !== undefined) return strange;
      await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      const compression = compressionOf[suffix] ?? 'none';
      const manifest = await readLastManifest(file, { root, compression }, ctx.signal);
      if (manifest === undefined) return 'does not end with a manifest of tars';
      return { summary: { ...archiveSummary(root, manifest), id: name }, manifest };
    } catch (cause) {
      if (hasErrno(cause, 'ENOENT')) return 'is gone';
      throw toTarsError(cause, `Cannot read ${path}`);
    }
  }
}

/** Why an archive and the checksum beside it are not a pair as tars writes them; undefined when they are. */
async function strangeFile(archive: string): Promise<string | undefined> {
  if (!(await lstat(archive)).isFile()) return 'is not a regular file';
  const checksum = checksumPath(archive);
  const found = await lstat(checksum).catch(whenMissing(undefined));
  if (found === undefined) return undefined;
  if (!found.isFile()) return 'has a .sha256 that is not a regular file';
  const { named } = await readChecksum(checksum);
  return named === basename(archive) ? undefined : 'has the .sha256 of another file';
}
