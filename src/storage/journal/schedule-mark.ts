import { stat, utimes, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toTarsError } from '../../model/errors.ts';
import { makeDirectories } from '../../disk/make-directories.ts';

/** Marks in the file `path` that a schedule was installed at `at`. */
export async function markSchedule(path: string, at: Date): Promise<void> {
  try {
    await makeDirectories(dirname(path), 0o700);
    await writeFile(path, '', { mode: 0o600 });
    await utimes(path, at, at);
  } catch (error) {
    throw toTarsError(error, `Cannot note in ${path} that the schedule is installed`);
  }
}

/** When any of `paths` was last changed, unless that lies after `now`; undefined when none is there. */
export async function lastChange(paths: readonly string[], now: Date): Promise<Date | undefined> {
  const times = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ mtime }) => mtime,
        () => undefined,
      ),
    ),
  );
  return times
    .filter((time) => time !== undefined)
    .filter((time) => time <= now)
    .sort((a, b) => a.getTime() - b.getTime())
    .at(-1);
}
