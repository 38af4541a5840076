import { lstat, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isThere } from '../disk/is-there.ts';
import { lockFile } from '../disk/kernel-lock.ts';
import { TarsError } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import { checksumPath } from './checksum-file.ts';
import { archiveSuffix, type ArchiveCompression } from './compression.ts';
import { MemberFile } from './member-file.ts';
import { archiveRoot } from './names.ts';

const partialSuffix = '.partial';
/** Beside the growing archive, locked by the process that writes it. */
const lockSuffix = '.lock';

/** The hidden file an archive grows in also reserves its name among running backups. */
export async function claimName(
  outputDir: string,
  compression: ArchiveCompression,
  now: Date,
): Promise<{ root: string; file: MemberFile; lock: AsyncDisposable }> {
  for (let second = 0; second < 60; second++) {
    const root = archiveRoot(new Date(now.getTime() + second * 1000));
    const archive = join(outputDir, root + archiveSuffix[compression]);
    if (await isTaken(join(outputDir, root))) continue;
    const partial = join(outputDir, `.${basename(archive)}${partialSuffix}`);
    const lock = await lockPartial(partial);
    if (lock === undefined) continue;
    try {
      return { root, file: await MemberFile.create(partial), lock };
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      if (!(error instanceof TarsError) || error.code !== 'storage-exists') throw error;
    }
  }
  throw new TarsError('storage-exists', `All archive names of the next minute are taken in ${outputDir}`, {
    hint: 'Check the system clock, or choose another output directory.',
  });
}

/** Undefined while somebody else has it. A file system without locks is no reason not to back up. */
async function lockPartial(partial: string): Promise<AsyncDisposable | undefined> {
  const path = partial + lockSuffix;
  if (await isThere(partial)) return undefined;
  let lock: Disposable | undefined;
  try {
    lock = lockFile(path);
    if (lock === undefined) return undefined;
  } catch {
    await rm(path, { force: true });
  }
  return {
    [Symbol.asyncDispose]: async () => {
      await rm(path, { force: true });
      lock?.[Symbol.dispose]();
    },
  };
}

/** However it is compressed: two archives of one name unpack into one folder. */
async function isTaken(root: string): Promise<boolean> {
  for (const suffix of Object.values(archiveSuffix)) {
    if ((await isThere(root + suffix)) || (await isThere(checksumPath(root + suffix)))) return true;
  }
  return false;
}

/**
 * Removes unfinished archives of processes that are gone. Where that is not known, as of those that versions up to
 * 1.0.12 left, it says which there are.
 */
export async function removePartials(outputDir: string, ctx: OperationContext): Promise<void> {
  const own = (await readdir(outputDir)).filter((name) => name.startsWith('.tars-backup-'));
  const partials = own.filter((name) => name.endsWith(partialSuffix));
  for (const name of own.filter((each) => each.endsWith(partialSuffix + lockSuffix))) {
    const partial = name.slice(0, -lockSuffix.length);
    // Killed before the archive began to grow, or after it had its name.
    if (!partials.includes(partial)) await removeIfAbandoned(join(outputDir, partial)).catch(() => undefined);
  }
  for (const name of partials) {
    const partial = join(outputDir, name);
    const end = await removeIfAbandoned(partial).catch(() => 'unknown' as const);
    if (end === 'removed') ctx.log.info(`Removed ${partial}, left by a backup that was killed`);
    if (end !== 'unknown') continue;
    ctx.log.warn(
      `${partial} belongs to an interrupted or a running backup. Delete it when no backup is running`,
    );
  }
}

async function removeIfAbandoned(partial: string): Promise<'removed' | 'grows' | 'unknown'> {
  const lockPath = partial + lockSuffix;
  const [file, mark] = await Promise.all(
    [partial, lockPath].map((path) => lstat(path).catch(() => undefined)),
  );
  const user = process.getuid?.();
  const isOurs = mark?.isFile() === true && mark.uid === user;
  if (!isOurs || (file !== undefined && (!file.isFile() || file.uid !== user))) return 'unknown';
  using lock = lockFile(lockPath);
  if (lock === undefined) return 'grows';
  await rm(partial, { force: true });
  await rm(lockPath, { force: true });
  return 'removed';
}
