import type { Command } from 'commander';
import { rm } from 'node:fs/promises';
import { isVisible } from '../../disk/is-there.ts';
import { throwIfAborted } from '../../model/abort.ts';
import { findProjects, placeConflicts, type FoundProject } from '../../composition/index.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import type { Diagnosis } from '../../operations/doctor/doctor.ts';
import type { FoundStore, StackInventory } from '../../ports/inventory.ts';
import { loadSettings } from '../../composition/settings.ts';
import { settingsCandidates, type Settings } from '../../settings/load.ts';
import { examineSetup } from '../wiring/examination.ts';
import { exitCodes } from '../session/exit-codes.ts';
import {
  choicesOfFlags,
  directoryFromHere,
  selectedProject,
  proposedChoices,
  type Choices,
  type InitFlags,
} from '../init/choices.ts';
import { askForChoices, askToCreate } from '../init/conversation.ts';
import { createWithKey, refuseConflictingOptions, takeRepository, writeSettings } from '../init/create.ts';
import { renderCreated, renderFound, renderInventory, renderNext, renderSuggestion } from '../init/report.ts';
import { renderDiagnoses } from '../render/diagnoses.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addInit(program: Command, cli: CliContext): void {
  program
    .command('init')
    .description('find the stack, write a commented tars.yaml, create the recovery key and the repository')
    .option('--compose <file>', 'use the Compose project of this file')
    .option('--project <name>', 'use the Compose project with this name')
    .option('--repository <dir>', 'directory of the repository (default: ./tars-repository)')
    .option('--stack <name>', 'name of the stack (default: the project, or the host name)')
    .option('--host <name>', 'host whose snapshots this machine continues (default: its own host name)')
    .option('--key-file <file>', 'file of the recovery key (default: tars-recovery.key beside tars.yaml)')
    .option('-y, --yes', 'ask nothing, and accept every proposal')
    .addHelpText(
      'after',
      '\nOn a terminal it asks five questions and ends with tars doctor; --yes does the\nsame without asking. An existing tars.yaml is kept, and only missing parts are\ncreated; on a terminal it asks first. An existing repository, as on a new\nmachine, is used if the key file opens it.\n\nExamples:\n  tars init\n  tars init --yes --repository /mnt/backup/tars\n  tars init --compose docker-compose.yml',
    )
    .action((flags: InitFlags, command: Command) => runVerb(command, cli, (session) => run(session, flags)));
}

async function run(session: Session, flags: InitFlags): Promise<number> {
  const { audience, env, configPath } = session;
  selectedProject(flags);
  if (flags.repository !== undefined) directoryFromHere(flags.repository, env);
  const settingsPath = settingsCandidates(configPath, env)[0] ?? 'tars.yaml';
  const isNew = !(await isVisible(settingsPath));
  const guided = flags.yes === true || audience.questions !== undefined;
  const choices = isNew ? await choose(session, flags, settingsPath) : undefined;
  const created = await create(settingsPath, choices, flags, session);
  const inventory = choices !== undefined && 'project' in choices.what ? choices.what : undefined;
  const suggestion = isNew && !guided && inventory === undefined ? await suggest(session) : undefined;
  const diagnoses = guided ? await examined(settingsPath, session) : undefined;
  const outcome = { ...created, settingsPath, isNew, inventory, suggestion, diagnoses };
  audience.result(valueOf(outcome), render(outcome, audience.columns));
  return exitCodes.success;
}

function choose(session: Session, flags: InitFlags, settingsPath: string): Promise<Choices> {
  const { questions } = session.audience;
  if (flags.yes === true) return proposedChoices(flags, settingsPath, session);
  if (questions === undefined) return choicesOfFlags(flags, settingsPath, session);
  return askForChoices(flags, settingsPath, session, questions);
}

interface Created {
  readonly settings: Settings;
  /** The repository was there already, and its key opens it. */
  readonly tookRepository: boolean;
  readonly newKey: string | undefined;
}

/**
 * Creates what is missing: `tars.yaml`, the key, the repository. What fails takes all of it away again. It takes less
 * than a second, so an interruption waits for its end: half of it would be in the next attempt's way.
 */
async function create(
  settingsPath: string,
  choices: Choices | undefined,
  flags: InitFlags,
  session: Session,
): Promise<Created> {
  throwIfAborted(session.ctx.signal);
  const ctx = { ...session.ctx, signal: new AbortController().signal };
  if (choices !== undefined) await writeSettings(settingsPath, choices);
  try {
    const settings = await loadSettings(settingsPath, session.env);
    await refuseConflicts(settings, session);
    if (choices === undefined) await agreeTo(settings, flags, session);
    const uninterrupted = { ...session, ctx };
    // Beside a tars.yaml that is there, a repository that is there leaves nothing to be done, and that is said.
    const tookRepository = choices !== undefined && (await takeRepository(settings, uninterrupted));
    const newKey = tookRepository ? undefined : await createWithKey(settings, uninterrupted);
    return { settings, tookRepository, newKey };
  } catch (error) {
    // So that the next attempt, with other flags, is not told to use what this one wrote.
    if (choices !== undefined) await rm(settingsPath, { force: true });
    throw error;
  }
}

/** @throws ConfigurationError when what is to be captured is, or lies in, what tars needs itself */
async function refuseConflicts(settings: Settings, { env }: Session): Promise<void> {
  const conflicts = await placeConflicts(settings, env);
  if (conflicts.length === 0) return;
  throw new ConfigurationError(`${settings.settingsPath}: ${conflicts.join('; ')}`, {
    hint: 'Choose another place for the repository, or list each place only once under components:.',
  });
}

/** An existing `tars.yaml` decides, and on a terminal nothing is created that was not asked for. */
async function agreeTo(settings: Settings, flags: InitFlags, session: Session): Promise<void> {
  refuseConflictingOptions(settings, flags, session.env);
  const { questions } = session.audience;
  if (flags.yes !== true && questions !== undefined) await askToCreate(settings, session, questions);
}

/** What this could have been told; only a hint. */
async function suggest({ env }: Session): Promise<FoundProject | undefined> {
  const [first, ...others] = await findProjects(process.cwd(), env);
  return first !== undefined && (first.isHere || others.length === 0) ? first : undefined;
}

/** The key was made and must be shown, whatever becomes of this. */
async function examined(
  settingsPath: string,
  { env, ctx }: Session,
): Promise<readonly Diagnosis[] | undefined> {
  try {
    return await examineSetup(settingsPath, env, ctx);
  } catch (error) {
    ctx.log.warn(`Not examined: ${toTarsError(error, 'the examination failed').message}`);
    return undefined;
  }
}

interface Outcome extends Created {
  readonly settingsPath: string;
  readonly isNew: boolean;
  readonly inventory: StackInventory | undefined;
  readonly suggestion: FoundProject | undefined;
  readonly diagnoses: readonly Diagnosis[] | undefined;
}

function valueOf({ settingsPath, settings, isNew, inventory, ...outcome }: Outcome): unknown {
  const { tookRepository, suggestion, diagnoses } = outcome;
  const { path, password_file: keyFile } = settings.repository;
  return {
    ...{ settings: settingsPath, repository: path, keyFile, wroteSettings: isNew, tookRepository },
    inventory: inventory && { ...inventory, stores: inventory.stores.map(valueOfStore) },
    suggestion: suggestion && { flags: suggestion.flags, why: suggestion.why },
    diagnoses,
  };
}

/** Without what only words the comments of `tars.yaml`. */
function valueOfStore({ riskIfUnmounted: _risk, proposal: _lines, ...found }: FoundStore): unknown {
  return found;
}

function render(outcome: Outcome, columns: number | undefined): string {
  const { settingsPath, settings, isNew, inventory, suggestion, diagnoses } = outcome;
  return [
    ...renderCreated(outcome),
    ...(inventory === undefined ? renderFound(settings, isNew) : renderInventory(settingsPath, inventory)),
    ...(diagnoses === undefined ? [] : ['', renderDiagnoses(diagnoses, columns), '']),
    ...renderNext(settings, { diagnoses, ofProject: inventory !== undefined }),
    ...renderSuggestion(suggestion, settingsPath, settings),
  ].join('\n');
}
