import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { DerivedContent, DerivedSource } from '../../ports/store-place.ts';
import type { ConfigFacts } from './facts.ts';
import type { ConfigFile } from './files.ts';
import { placeholder } from './redact/placeholder.ts';

/** A derived file that is captured with the others. */
export interface DerivedFile {
  readonly file: ConfigFile;
  readonly names: readonly string[];
}

/** Where a derived file may be restored: a snapshot cannot choose other places to write to. */
export const derivedPaths = (
  files: readonly string[],
  source: DerivedSource | undefined,
): readonly string[] =>
  source === undefined ? [] : [...new Set(files.map((path) => join(dirname(path), source.fileName)))];

/** Its settings, without any of their values. */
export const shownDerived = (names: readonly string[]): string =>
  names.map((name) => `${name}=${placeholder}\n`).join('');

/** What of the derived file is in the facts. */
export const derivedFacts = ({ file, names }: DerivedFile): NonNullable<ConfigFacts['derived']> => ({
  path: file.path,
  names: [...names],
});

/** What the running containers show; undefined when they show nothing or cannot be asked. Throws only when interrupted. */
export async function readDerived(
  source: DerivedSource | undefined,
  ctx: OperationContext,
): Promise<DerivedContent | undefined> {
  try {
    return await source?.read(ctx);
  } catch (error) {
    throwIfAborted(ctx.signal);
    ctx.log.warn(
      toTarsError(error, 'Settings that only the running containers have could not be read').message,
    );
    return undefined;
  }
}

/** The file beside `files`, for its owner alone; undefined where none of them lies in its directory. */
export function derivedFile(
  content: DerivedContent | undefined,
  source: DerivedSource | undefined,
  files: readonly ConfigFile[],
): DerivedFile | undefined {
  const beside = files.find(({ path }) => dirname(path) === content?.directory);
  if (content === undefined || source === undefined || beside === undefined) return undefined;
  const file: ConfigFile = {
    path: join(content.directory, source.fileName),
    bytes: Buffer.from(content.text),
    attributes: { ...beside.attributes, mode: 0o600 },
  };
  return { file, names: content.names };
}
