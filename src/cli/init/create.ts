import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { dirname, relative, resolve, sep } from 'node:path';
import { createDurably } from '../../disk/durable-file.ts';
import { isVisible } from '../../disk/is-there.ts';
import { createStore, openStore } from '../../composition/index.ts';
import { ConfigurationError, TarsError, toTarsError } from '../../model/errors.ts';
import { makeDirectories } from '../../disk/make-directories.ts';
import { requireMounted } from '../../disk/mounts.ts';
import { composeTemplate } from '../../settings/compose-template.ts';
import type { Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { repositoryPassword } from '../../settings/secrets.ts';
import { settingsTemplate } from '../../settings/template.ts';
import type { Session } from '../session/session.ts';
import { directoryFromHere, fromHere, type Choices, type InitFlags } from './choices.ts';
import { holdsRepository } from './look-around.ts';

/** 32 random bytes: no dictionary reaches it, and scrypt has nothing to add. */
const recoveryKeyBytes = 32;

/** Writes the `tars.yaml` of `choices`. Never over one that is there. */
export async function writeSettings(settingsPath: string, { what, ...values }: Choices): Promise<void> {
  const text =
    'project' in what
      ? composeTemplate(what, { ...values, settingsPath })
      : settingsTemplate({ ...values, ...what });
  try {
    await requireMounted(settingsPath);
    await makeDirectories(dirname(settingsPath));
    await createDurably(settingsPath, text);
  } catch (error) {
    throw toTarsError(error, `Cannot write ${settingsPath}`);
  }
}

/**
 * Opens the repository that is there already, as on a new machine, with the key that is there already.
 * @returns false when there is no repository
 * @throws TarsError `repository-exists` when there is no key, `wrong-password` when it is not of this repository
 */
export async function takeRepository(settings: Settings, { ctx, env }: Session): Promise<boolean> {
  const { path, password_file: keyFile } = settings.repository;
  if (!(await holdsRepository(path))) return false;
  if (!(await hasPassword(keyFile, env))) {
    throw new TarsError('repository-exists', `There is a repository at ${path}, but no key at ${keyFile}`, {
      hint: 'Give its recovery key with --key-file FILE, or choose another place for a new repository.',
    });
  }
  if (keyFile !== undefined) refuseKeyInRepository(path, keyFile);
  await using _opened = await openStore(settings, env, ctx);
  return true;
}

/** Whether a password is there without a new key. */
export async function hasPassword(keyFile: string | undefined, env: Environment): Promise<boolean> {
  const given = ['TARS_PASSWORD', 'TARS_PASSWORD_FILE', 'TARS_PASSWORD_COMMAND'].some((name) => env[name]);
  return keyFile === undefined || given || (await isVisible(keyFile));
}

/** Creates the repository, and its key file unless there is one. Returns a new key. */
export async function createWithKey({ repository }: Settings, session: Session): Promise<string | undefined> {
  const { ctx, env } = session;
  const { path, password_file: keyFile } = repository;
  if (keyFile !== undefined) refuseKeyInRepository(path, keyFile);
  const newKey = await makeRecoveryKey(keyFile, session);
  try {
    await createStore(path, await repositoryPassword(repository, env, ctx.signal), ctx);
  } catch (error) {
    // A key that opens nothing would only be mistaken for one that does.
    if (newKey !== undefined && keyFile !== undefined) await rm(keyFile, { force: true });
    throw error;
  }
  return newKey;
}

/** An existing tars.yaml decides. @throws ConfigurationError for flags that say otherwise, and would be ignored */
export function refuseConflictingOptions(
  { settingsPath, stack, host, repository, docker }: Settings,
  flags: InitFlags,
  env: Environment,
): void {
  const { repository: directory, keyFile } = flags;
  const wishes = [
    ['--repository', directory && directoryFromHere(directory, env), repository.path],
    ['--stack', flags.stack, stack],
    ['--host', flags.host, host],
    ['--project', flags.project, docker?.project],
    ['--key-file', keyFile && fromHere(keyFile, env), repository.password_file],
  ] as const;
  for (const [flag, selector, present] of wishes) {
    if (selector === undefined || selector === present) continue;
    throw new ConfigurationError(
      `${flag} ${selector} differs from ${settingsPath}, and that file is kept: ${present ?? 'nothing'}`,
      { hint: `Change it there, omit ${flag}, or write another file with --config FILE.` },
    );
  }
}

/** Whoever holds the repository must not hold its key with it. */
function refuseKeyInRepository(path: string, keyFile: string): void {
  if (!liesInside(path, keyFile)) return;
  throw new ConfigurationError(`The recovery key ${keyFile} would lie inside the repository ${path}`, {
    hint: 'Choose another place with --key-file: anyone who gets the repository must not get its key with it.',
  });
}

/** Whether the file is in the directory or below, by their names alone: links are not followed. */
export function liesInside(directory: string, file: string): boolean {
  const way = relative(resolve(directory), resolve(file));
  return way !== '..' && !way.startsWith(`..${sep}`);
}

/** Creates the key file (0600) unless it exists or the password comes from elsewhere. */
async function makeRecoveryKey(keyFile: string | undefined, { env }: Session): Promise<string | undefined> {
  if (keyFile === undefined || (await hasPassword(keyFile, env))) return undefined;
  const key = randomBytes(recoveryKeyBytes).toString('base64url');
  try {
    await requireMounted(keyFile);
    await makeDirectories(dirname(keyFile));
    await createDurably(keyFile, `${key}\n`);
  } catch (error) {
    throw toTarsError(error, `Cannot write the recovery key ${keyFile}`);
  }
  return key;
}
