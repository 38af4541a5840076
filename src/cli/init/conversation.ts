import { accessSync, constants, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProjects, takeInventory, type ProjectSelector } from '../../composition/index.ts';
import { ConfigurationError, hasErrno, isDenied, messageOf } from '../../model/errors.ts';
import type { StackInventory } from '../../ports/inventory.ts';
import type { Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { clockText, type CareValues } from '../../settings/template-sections.ts';
import type { Option, Questions } from '../render/questions.ts';
import type { Session } from '../session/session.ts';
import {
  directoryFromHere,
  placesOf,
  selectedProject,
  proposedCare,
  type Choices,
  type InitFlags,
} from './choices.ts';
import { hasPassword, liesInside } from './create.ts';
import { askAboutLarge } from './large.ts';
import { holdsRepository, lookAround, type LocalStores } from './look-around.ts';

/**
 * At most five questions, each with a proposal: what, where to, when, what is kept, and whether all of it is right.
 * Writes nothing.
 * @throws InterruptedError on Ctrl-C
 * @throws ConfigurationError when the last answer is no
 */
export async function askForChoices(
  flags: InitFlags,
  settingsPath: string,
  session: Session,
  questions: Questions,
): Promise<Choices> {
  const { ctx, env } = session;
  const found = await askWhat(flags, session, questions);
  const what = 'project' in found ? await askAboutLarge(found, questions, ctx.signal) : found;
  for (const line of foundLines(what)) ctx.log.info(line);
  const places = placesOf(flags, settingsPath, what, env);
  const repositoryPath =
    flags.repository === undefined ? await askWhere(places, session, questions) : places.repositoryPath;
  const nightly = await askWhen(session, questions);
  const retention = await questions.confirm(
    'Keep the last 3 snapshots, 7 daily, 4 weekly, 12 monthly; forget others?',
    ctx.signal,
  );
  const question = await lastQuestion(settingsPath, { ...places, repositoryPath }, env);
  await requireYes(question, ctx.signal, questions);
  return { ...places, repositoryPath, what, care: { nightly, retention } };
}

/** Names what is created; a repository and a key that are there already are used as they are. */
async function lastQuestion(
  settingsPath: string,
  { repositoryPath, passwordFile }: Pick<Choices, 'repositoryPath' | 'passwordFile'>,
  env: Environment,
): Promise<string> {
  if (await holdsRepository(repositoryPath))
    return `Create ${settingsPath} for the existing repository ${repositoryPath}?`;
  return (await hasPassword(passwordFile, env))
    ? `Create ${settingsPath} and the repository ${repositoryPath}?`
    : `Create ${settingsPath}, the repository ${repositoryPath} and its key ${passwordFile}?`;
}

/**
 * Asks before a repository is created where `tars.yaml` says: one that is gone may be on a disk that is not mounted.
 * @throws InterruptedError on Ctrl-C
 * @throws ConfigurationError when the answer is no
 */
export async function askToCreate(
  { repository: { path, password_file: keyFile } }: Settings,
  { ctx, env }: Session,
  questions: Questions,
): Promise<void> {
  if (await holdsRepository(path)) return;
  const question =
    keyFile === undefined || (await hasPassword(keyFile, env))
      ? `The key exists, but there is no repository at ${path}. Is its disk mounted? Create a new one?`
      : `Create the repository ${path} and its key ${keyFile}?`;
  await requireYes(question, ctx.signal, questions);
}

async function requireYes(question: string, signal: AbortSignal, questions: Questions): Promise<void> {
  if (await questions.confirm(question, signal)) return;
  throw new ConfigurationError('Nothing was written, because you answered no', {
    hint: 'Run tars init again.',
  });
}

async function askWhat(
  flags: InitFlags,
  { env, ctx }: Session,
  questions: Questions,
): Promise<Choices['what']> {
  const named = selectedProject(flags);
  if (named !== undefined) return takeInventory(named, env, ctx);
  const [projects, local] = await Promise.all([findProjects(process.cwd(), env), lookAround(env)]);
  const options: Option<ProjectSelector | undefined>[] = [
    ...projects.map(({ selector }) => ({ value: selector, label: labelOf(selector) })),
    { value: undefined, label: `local services: ${storesOf(local)}` },
  ];
  const selector =
    projects.length === 0
      ? undefined
      : await questions.choose('What do you want to back up?', options, ctx.signal);
  return selector === undefined ? local : takeInventory(selector, env, ctx);
}

const labelOf = (selector: ProjectSelector): string =>
  'project' in selector
    ? `the Compose project ${selector.project}`
    : `the Compose project of ${selector.composeFile}`;

function storesOf({ proposals }: LocalStores): string {
  const found = proposals.filter(({ isFound }) => isFound).map(({ kind }) => kind);
  return found.length === 0 ? 'none answers on its default port' : found.join(', ');
}

function foundLines(what: StackInventory | LocalStores): readonly string[] {
  if (!('project' in what)) return [`Local stores: ${storesOf(what)}`];
  const { project, stores, writers, files, places } = what;
  const names = stores.map(({ service, kind }) => (service === kind ? kind : `${service} (${kind})`));
  const good = files.filter(({ problem }) => problem === undefined);
  return [
    `The Compose project ${project}: ${names.length === 0 ? 'no store was recognised' : names.join(', ')}`,
    `Directories: ${places.map(({ name }) => name).join(', ') || 'none'}`,
    `Configuration files: ${good.length}; paused for the cut: ${writers.map(({ service }) => service).join(', ') || 'nothing'}`,
  ];
}

async function askWhere(
  { repositoryPath: preset, passwordFile }: Pick<Choices, 'repositoryPath' | 'passwordFile'>,
  { ctx, env }: Session,
  questions: Questions,
): Promise<string> {
  const question = 'Where do you want to keep snapshots? Best on another disk or a mounted NAS';
  const missingKey = (await hasPassword(passwordFile, env)) ? undefined : passwordFile;
  const check = (answer: string): string | undefined => {
    const path = placeAnswered(answer, env);
    if (path instanceof ConfigurationError) return `${path.message}: ${path.hint ?? ''}`;
    return liesInside(path, passwordFile)
      ? `The key ${passwordFile} would lie in this directory: choose another one, such as ${join(path, 'repository')}`
      : problemWithPlace(path, missingKey);
  };
  return directoryFromHere(await questions.text(question, { preset, check }, ctx.signal), env);
}

function placeAnswered(answer: string, env: Environment): string | ConfigurationError {
  try {
    return directoryFromHere(answer, env);
  } catch (error) {
    if (error instanceof ConfigurationError) return error;
    throw error;
  }
}

/** What the creation of a repository there, or the use of one, would end with. */
function problemWithPlace(path: string, missingKey: string | undefined): string | undefined {
  try {
    const names = readdirSync(path).filter((name) => name !== 'lost+found');
    if (names.includes('config')) {
      return missingKey === undefined
        ? undefined
        : `There is already a repository, but no key at ${missingKey}: see --key-file`;
    }
    if (names.length > 0)
      return `This directory is not empty: choose a new one, such as ${join(path, 'tars')}`;
    return problemWithParent(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return problemWithParent(dirname(path));
    if (hasErrno(error, 'ENOTDIR')) return 'This is a file, or lies below a file: choose a directory';
    return error instanceof Error ? error.message : String(error);
  }
}

/** Why nothing could be created there: the nearest directory that exists decides. */
function problemWithParent(path: string): string | undefined {
  try {
    accessSync(path, constants.W_OK);
    return undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return problemWithParent(dirname(path));
    if (isDenied(error)) return `This user may not write to ${path}`;
    return hasErrno(error, 'EROFS')
      ? `The file system of ${path} is mounted read-only`
      : `${path} cannot be written to: ${messageOf(error)}`;
  }
}

const never = 'never';

async function askWhen({ ctx }: Session, questions: Questions): Promise<CareValues['nightly']> {
  const { hour, minute } = proposedCare.nightly ?? { hour: 0, minute: 0 };
  const answer = await questions.text(
    `At what time should a backup run every night? A time, or ${never}`,
    {
      preset: clockText(hour, minute),
      check: (text) =>
        text === never || timeOf(text) !== undefined ? undefined : `Enter a time such as 02:30, or ${never}`,
    },
    ctx.signal,
  );
  return answer === never ? undefined : timeOf(answer);
}

function timeOf(text: string): CareValues['nightly'] {
  const [, hour, minute] = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  return hour === undefined ? undefined : { hour: Number(hour), minute: Number(minute) };
}
