import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isThere } from '../disk/is-there.ts';
import { TarsError } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import { checksumPath } from './checksum-file.ts';
import { archiveSuffix, type ArchiveCompression } from './compression.ts';
import { MemberFile } from './member-file.ts';
import { archiveRoot } from './names.ts';

const partialSuffix = '.partial';

/** The hidden file an archive grows in also reserves its name among running backups. */
export async function claimName(
  outputDir: string,
  compression: ArchiveCompression,
  now: Date,
): Promise<{ root: string; file: MemberFile }> {
  for (let second = 0; second < 60; second++) {
    const root = archiveRoot(new Date(now.getTime() + second * 1000));
    const archive = join(outputDir, root + archiveSuffix[compression]);
    if (await isTaken(join(outputDir, root))) continue;
    try {
      return {
        root,
        file: await MemberFile.create(join(outputDir, `.${basename(archive)}${partialSuffix}`)),
      };
    } catch (error) {
      if (!(error instanceof TarsError) || error.code !== 'storage-exists') throw error;
    }
  }
  throw new TarsError('storage-exists', `No archive name of the next minute is free in ${outputDir}`, {
    hint: 'Check the system clock, or choose another output directory.',
  });
}

/** However it is compressed: two archives of one name unpack into one folder. */
async function isTaken(root: string): Promise<boolean> {
  for (const suffix of Object.values(archiveSuffix)) {
    if ((await isThere(root + suffix)) || (await isThere(checksumPath(root + suffix)))) return true;
  }
  return false;
}

/** Says which unfinished archives lie in `outputDir`; nobody but the operator knows whether they still grow. */
export async function warnOfPartials(outputDir: string, ctx: OperationContext): Promise<void> {
  for (const name of await readdir(outputDir)) {
    if (!name.startsWith('.tars-backup-') || !name.endsWith(partialSuffix)) continue;
    ctx.log.warn(
      `${join(outputDir, name)} was left by an interrupted backup, or belongs to one that runs; delete it when none runs`,
    );
  }
}
