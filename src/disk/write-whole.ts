import { closeSync, constants, writeFileSync } from 'node:fs';
import type { OpenDirectory } from './open-directory.ts';
import { removeTree } from './remove-tree.ts';
import { syncDescriptor } from './sync.ts';

/**
 * Writes a file of mode 0600, whole or not at all, also after a power cut.
 * @param directory nobody but this user and root can enter it
 */
export async function writeWhole(directory: OpenDirectory, name: string, text: string): Promise<void> {
  const temporary = `${name}.tmp`;
  // What a run that was cut off left.
  await removeTree(directory, temporary);
  const descriptor = directory.openFile(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  try {
    writeFileSync(descriptor, text);
    await syncDescriptor(descriptor);
  } finally {
    closeSync(descriptor);
  }
  await directory.rename(temporary, directory, name);
  await directory.sync();
}
