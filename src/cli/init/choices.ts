import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import {
  findProjects,
  takeInventory,
  type FoundProject,
  type ProjectSelector,
} from '../../composition/index.ts';
import { ConfigurationError } from '../../model/errors.ts';
import type { StackInventory } from '../../ports/inventory.ts';
import type { Environment } from '../../model/environment.ts';
import { absolutePath, localDirectory } from '../../settings/local-path.ts';
import { noCare, type CareValues } from '../../settings/template-sections.ts';
import type { Session } from '../session/session.ts';
import { lookAround, type LocalStores } from './look-around.ts';

/** The flags of `tars init`, as given; what is not given is asked or found. */
export interface InitFlags {
  readonly compose?: string;
  readonly project?: string;
  readonly repository?: string;
  readonly stack?: string;
  readonly host?: string;
  readonly keyFile?: string;
  readonly yes?: boolean;
}

/** What a `tars.yaml` is written from. */
export interface Choices {
  readonly stack: string;
  /** Written down only where it was given: a machine's own name need not be. */
  readonly host: string | undefined;
  readonly repositoryPath: string;
  readonly passwordFile: string;
  /** A Compose project, or the stores of this machine. */
  readonly what: StackInventory | LocalStores;
  readonly care: CareValues;
}

/** Every night; what only costs space may wait for the morning after. */
export const proposedCare: CareValues = { nightly: { hour: 2, minute: 30 }, retention: true };

/** What flags alone say: a project only where they name one, and nothing that runs or removes by itself. */
export async function choicesOfFlags(
  flags: InitFlags,
  settingsPath: string,
  { env, ctx }: Session,
): Promise<Choices> {
  const selector = selectedProject(flags);
  const what = selector === undefined ? await lookAround(env) : await takeInventory(selector, env, ctx);
  return { ...placesOf(flags, settingsPath, what, env), what, care: noCare };
}

/** What a conversation proposes, without one. @throws ConfigurationError when it is not clear which project is meant */
export async function proposedChoices(
  flags: InitFlags,
  settingsPath: string,
  { env, ctx }: Session,
): Promise<Choices> {
  const named = selectedProject(flags);
  const found = named === undefined ? await findProjects(process.cwd(), env) : [];
  const selector = named ?? projectHere(found)?.selector;
  const what =
    selector === undefined ? await localStores(found, env) : await takeInventory(selector, env, ctx);
  return { ...placesOf(flags, settingsPath, what, env), what, care: proposedCare };
}

/** The one of this directory. A project of another directory is taken only where somebody names it. */
function projectHere(found: readonly FoundProject[]): FoundProject | undefined {
  const [first, ...others] = found.filter(({ isHere }) => isHere);
  if (first === undefined || others.length === 0) return first;
  throw new ConfigurationError('Several Compose projects run from this directory', {
    hint: `Name one of them: ${[first, ...others].map(({ flags }) => flags).join(', ')}`,
  });
}

/** @throws ConfigurationError when nothing answers here, and a project of another directory may be meant */
async function localStores(found: readonly FoundProject[], env: Environment): Promise<LocalStores> {
  const local = await lookAround(env);
  if (found.length === 0 || local.proposals.some(({ isFound }) => isFound)) return local;
  throw new ConfigurationError(
    'No Compose project runs from this directory, it has no Compose file, and no store answers on this machine',
    { hint: `To back up another project, name it: ${found.map(({ flags }) => flags).join(', ')}` },
  );
}

/** Which project flags name. @throws ConfigurationError when they name two */
export function selectedProject({ compose, project }: InitFlags): ProjectSelector | undefined {
  if (compose !== undefined && project !== undefined) {
    throw new ConfigurationError('--compose and --project both name a Compose project', {
      hint: 'Use one of them: --project for a project with containers, --compose for a Compose file.',
    });
  }
  if (project !== undefined) return { project };
  return compose === undefined ? undefined : { composeFile: compose };
}

/** A path as it was typed. The shell leaves the `~` of `--repository=~/tars`, and of an answer, as it is. */
export const fromHere = (path: string, env: Environment): string => absolutePath(process.cwd(), path, env);

/** {@link fromHere} of a place for snapshots. @throws ConfigurationError for an address such as `s3:…` */
export const directoryFromHere = (path: string, env: Environment): string =>
  localDirectory(process.cwd(), path, env);

/** Names and places as flags give them, or as they are without. */
export function placesOf(
  flags: InitFlags,
  settingsPath: string,
  what: Choices['what'],
  env: Environment,
): Pick<Choices, 'stack' | 'host' | 'repositoryPath' | 'passwordFile'> {
  return {
    stack: flags.stack ?? stackName('project' in what ? what.project : hostname()),
    host: flags.host,
    repositoryPath: directoryFromHere(flags.repository ?? 'tars-repository', env),
    passwordFile: fromHere(flags.keyFile ?? join(dirname(settingsPath), 'tars-recovery.key'), env),
  };
}

function stackName(host: string): string {
  const name = host
    .toLowerCase()
    .replace(/[^a-z0-9_.-]/g, '-')
    .replace(/^[^a-z0-9]+/, '');
  return name === '' ? 'stack' : name;
}
