import { open, rename } from 'node:fs/promises';
import { syncDirectory } from '../../disk/sync.ts';

/** Replaces `path`, in `directory`, by a file of mode 0600: after a crash the old or the new one is whole. */
export async function replaceDurably(path: string, text: string, directory: string): Promise<void> {
  const temporary = `${path}.tmp`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(directory);
}
