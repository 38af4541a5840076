import { readdir } from 'node:fs/promises';
import { hasErrno } from '../model/errors.ts';

/** Whether the directory is missing, or holds nothing but what restores and file systems put there. */
export async function holdsNothing(directory: string): Promise<boolean> {
  try {
    const names = await readdir(directory);
    return names.every((name) => /^\.tars-(new|prev)-/.test(name) || name === 'lost+found');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return true;
    throw error;
  }
}
