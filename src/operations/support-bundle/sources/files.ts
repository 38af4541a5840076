import { basename } from 'node:path';
import { fileCharsMax } from '../bounds.ts';
import type { RawFile, SupportSource } from '../source.ts';
import { readWhole } from './read-part.ts';

/** A file of the operator, whole, under a folder of the bundle. */
export const fileSource = (path: string, folder: string): SupportSource => ({
  name: path,
  collect: async ({ signal }) => ({ files: [await rawFile(path, folder, signal)] }),
});

/** A file that only teaches what its secrets are. */
export const lessonSource = (path: string): SupportSource => ({
  name: `secrets of ${path}`,
  collect: async ({ signal }) => ({ lessons: [await rawFile(path, '', signal)] }),
});

/** Secrets of the settings. What hangs or cannot be read is named, and not waited for. */
export const secretSource = (
  what: string,
  read: () => Promise<readonly (string | undefined)[]>,
): SupportSource => ({
  name: `secret of ${what}`,
  collect: async () => ({ secrets: (await read()).flatMap((secret) => secret || []) }),
});

/** Variables, `NAME=value` each, that only teach what their secrets are. */
export const environmentLesson = (lines: readonly string[]): RawFile => ({
  ...{ path: 'environment.env', from: 'environment.env', form: 'file' },
  body: withoutPlaces(lines)
    .map((line) => line.replaceAll('\n', ' '))
    .join('\n'),
});

/** `PWD` has the name of a password, and is where a process works. */
export const withoutPlaces = (lines: readonly string[]): string[] =>
  lines.filter((line) => !/^(?:OLD)?PWD=(?:\/|$)/.test(line));

async function rawFile(path: string, folder: string, signal: AbortSignal): Promise<RawFile> {
  const body = await readWhole(path, fileCharsMax, signal);
  return { path: `${folder}/${basename(path).replace(/^\./, 'dot.')}`, from: path, body, form: 'file' };
}
