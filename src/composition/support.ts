import { resolve } from 'node:path';
import { createTextCleaner } from '../components/config/text-cleaner.ts';
import { hasErrno, TarsError, toTarsError } from '../model/errors.ts';
import type { AskProgram, ContainerInspector, TextCleaner } from '../ports/support.ts';
import { askProgram } from '../runtimes/ask-program.ts';
import { findComposeFile, withOverride } from '../runtimes/docker/compose/compose-files.ts';
import { createContainerInspector } from '../runtimes/docker/engine/support.ts';
import { systemdRuns } from '../runtimes/schedulers/systemd.ts';
import { unitNames } from '../runtimes/schedulers/systemd-units.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { publishDurably } from '../disk/durable-file.ts';

/** What a support bundle needs of this machine. */
export interface SupportTools {
  readonly cleaner: TextCleaner;
  readonly ask: AskProgram;
  /** Undefined for a stack of plain processes. */
  readonly inspector: ContainerInspector | undefined;
  /** Units of systemd that run a stack's schedule; undefined where systemd does not run. */
  readonly unitsOf: ((stack: string) => readonly string[]) | undefined;
  /** The Compose files of a directory. */
  composeFilesIn(directory: string): Promise<readonly string[]>;
  /** Creates the file, mode 0600, whole or not at all. @throws TarsError `storage-exists` */
  publish(path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
}

/** Opens and asks nothing yet. */
export function supportTools(docker: Settings['docker'], env: Environment): SupportTools {
  return {
    cleaner: createTextCleaner(),
    ask: askProgram,
    inspector: docker === undefined ? undefined : createContainerInspector(docker.host, docker.project, env),
    unitsOf: systemdRuns() ? unitNames : undefined,
    async composeFilesIn(directory) {
      const file = await findComposeFile(directory);
      return file === undefined ? [] : withOverride(file);
    },
    publish,
  };
}

async function publish(path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  try {
    await publishDurably(resolve(path), [bytes], { signal });
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) throw bundleExists(path);
    throw toTarsError(error, `Cannot write ${path}`);
  }
}

/** Nothing is overwritten. */
export const bundleExists = (path: string): TarsError =>
  new TarsError('storage-exists', `${path} already exists and is not overwritten`, {
    hint: 'Give another name with --output, or remove that file.',
  });
