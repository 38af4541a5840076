import type { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { access, mkdir, open, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir, hostname } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { createStore, suggestInventory, takeInventory, type ProjectWish } from '../../compose.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import { loadSettings, settingsCandidates, type Settings } from '../../settings/load.ts';
import { repositoryPassword } from '../../settings/secrets.ts';
import { composeTemplate } from '../../settings/compose-template.ts';
import { settingsTemplate, type TemplateValues } from '../../settings/template.ts';
import { noCare } from '../../settings/template-sections.ts';
import type { StackInventory } from '../../ports/inventory.ts';
import { notCapturedLines } from '../render/not-captured.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatTable } from '../render/units.ts';
import { runVerb, type Session, type Surroundings } from '../session.ts';

interface InitFlags {
  readonly compose?: string;
  readonly project?: string;
  readonly repository?: string;
  readonly stack?: string;
  readonly keyFile?: string;
}

/** How long a local port may take to answer, in milliseconds. */
const probeTimeoutMs = 500;
/** 32 random bytes: no dictionary reaches it, and scrypt has nothing to add. */
const recoveryKeyBytes = 32;

export function addInit(program: Command, surroundings: Surroundings): void {
  program
    .command('init')
    .description('write a commented tars.yaml, make the recovery key and create the repository')
    .option('--compose <file>', 'fill in what the Compose project of that file consists of')
    .option('--project <name>', 'fill in what the Compose project of that name consists of')
    .option('--repository <dir>', 'where snapshots go (default: ./tars-repository)')
    .option('--stack <name>', 'name of the stack (default: the project, or the host name)')
    .option('--key-file <file>', 'where the recovery key goes (default: tars-recovery.key beside tars.yaml)')
    .addHelpText(
      'after',
      '\nAn existing tars.yaml is kept: only what is missing is created.\n\nExamples:\n  tars init --compose docker-compose.yml\n  tars init --repository /mnt/backup/tars',
    )
    .action((flags: InitFlags, command: Command) =>
      runVerb(command, surroundings, (session) => run(session, flags)),
    );
}

async function run(session: Session, flags: InitFlags): Promise<number> {
  const { audience, env, configPath } = session;
  const wish = projectWish(flags);
  const settingsPath = settingsCandidates(configPath, env)[0] ?? 'tars.yaml';
  const wroteSettings = !(await exists(settingsPath));
  const inventory =
    wroteSettings && wish !== undefined ? await takeInventory(wish, env, session.ctx) : undefined;
  if (wroteSettings) await writeSettings(settingsPath, flags, inventory);
  let settings: Settings;
  let newKey: string | undefined;
  try {
    settings = await loadSettings(settingsPath, env);
    if (!wroteSettings) refuseOtherWishes(settings, flags);
    newKey = await createWithKey(settings, session);
  } catch (error) {
    // So that the next attempt, with other flags, is not told to use what this one wrote.
    if (wroteSettings) await rm(settingsPath, { force: true });
    throw error;
  }
  const keyFile = settings.repository.password_file;
  const suggestion =
    wroteSettings && wish === undefined ? await suggestInventory(process.cwd(), env) : undefined;
  const value = {
    ...{ settings: settingsPath, repository: settings.repository.path, keyFile, wroteSettings },
    ...(inventory === undefined ? {} : { inventory }),
    ...(suggestion === undefined ? {} : { suggestion }),
  };
  const found =
    inventory === undefined ? renderFound(settingsPath, settings) : renderInventory(settingsPath, inventory);
  const lines = [...renderCreated(settingsPath, settings, wroteSettings, newKey), ...found];
  audience.result(value, [...lines, ...renderSuggestion(suggestion, settingsPath, settings)].join('\n'));
  return exitCodes.success;
}

function projectWish({ compose, project }: InitFlags): ProjectWish | undefined {
  if (compose !== undefined && project !== undefined) {
    throw new ConfigurationError('--compose and --project both name a Compose project', {
      hint: 'Keep one: --project for one that has containers, --compose for one that is a file.',
    });
  }
  if (project !== undefined) return { project };
  return compose === undefined ? undefined : { composeFile: compose };
}

/** Creates the repository, and its key file unless there is one. Returns a new key. */
async function createWithKey({ repository }: Settings, session: Session): Promise<string | undefined> {
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

/** An existing tars.yaml decides; flags that say otherwise would be ignored. */
function refuseOtherWishes({ settingsPath, stack, repository, docker }: Settings, flags: InitFlags): void {
  const absolute = (path: string | undefined): string | undefined =>
    path === undefined ? path : resolve(path);
  const wishes = [
    ['--repository', absolute(flags.repository), repository.path],
    ['--stack', flags.stack, stack],
    ['--project', flags.project, docker?.project],
    ['--key-file', absolute(flags.keyFile), repository.password_file],
  ] as const;
  for (const [flag, wish, present] of wishes) {
    if (wish === undefined || wish === present) continue;
    throw new ConfigurationError(
      `${flag} ${wish} is not what ${settingsPath} says, and that file is kept: ${present ?? 'nothing'}`,
      { hint: `Change it there, leave ${flag} out, or write another file with --config FILE.` },
    );
  }
}

async function writeSettings(
  settingsPath: string,
  flags: InitFlags,
  inventory: StackInventory | undefined,
): Promise<void> {
  const directory = dirname(settingsPath);
  const values = {
    stack: flags.stack ?? stackName(inventory?.project ?? hostname()),
    repositoryPath: resolve(flags.repository ?? 'tars-repository'),
    passwordFile: resolve(flags.keyFile ?? join(directory, 'tars-recovery.key')),
  };
  const text =
    inventory === undefined
      ? settingsTemplate({ ...values, care: noCare, ...(await lookAround()) })
      : composeTemplate(inventory, { ...values, care: noCare, settingsPath });
  try {
    await mkdir(directory, { recursive: true });
    await writeNew(settingsPath, text);
  } catch (error) {
    throw toTarsError(error, `Cannot write ${settingsPath}`);
  }
}

/** Whoever holds the repository must not hold its key with it. */
function refuseKeyInRepository(path: string, keyFile: string): void {
  const way = relative(resolve(path), resolve(keyFile));
  if (way === '..' || way.startsWith(`..${sep}`)) return;
  throw new ConfigurationError(`The recovery key ${keyFile} would lie inside the repository ${path}`, {
    hint: 'Put it elsewhere with --key-file: whoever gets the repository must not get its key with it.',
  });
}

/** Creates the key file (0600) unless it exists or the password comes from elsewhere. */
async function makeRecoveryKey(keyFile: string | undefined, { env }: Session): Promise<string | undefined> {
  const given = ['TARS_PASSWORD', 'TARS_PASSWORD_FILE', 'TARS_PASSWORD_COMMAND'].some((name) => env[name]);
  if (keyFile === undefined || given || (await exists(keyFile))) return undefined;
  const key = randomBytes(recoveryKeyBytes).toString('base64url');
  try {
    await mkdir(dirname(keyFile), { recursive: true });
    await writeNew(keyFile, `${key}\n`);
  } catch (error) {
    throw toTarsError(error, `Cannot write the recovery key ${keyFile}`);
  }
  return key;
}

async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What answers on this machine. */
async function lookAround(): Promise<Pick<TemplateValues, 'found' | 'ollamaPath'>> {
  const ollamaPath = await findModelStore();
  const found = await findStores();
  return {
    found: ollamaPath === undefined ? found : new Set([...found, 'ollama'] as const),
    ollamaPath: ollamaPath ?? '/usr/share/ollama/.ollama/models',
  };
}

async function findStores(): Promise<ReadonlySet<'postgres' | 'redis' | 'chroma'>> {
  const ports = { postgres: 5432, redis: 6379, chroma: 8000 } as const;
  const names = ['postgres', 'redis', 'chroma'] as const;
  const answers = await Promise.all(names.map((name) => listens(ports[name])));
  return new Set(names.filter((_, position) => answers[position] === true));
}

function listens(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: probeTimeoutMs });
    const finish = (answer: boolean) => (): void => {
      socket.destroy();
      done(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false)).once('timeout', finish(false));
  });
}

async function findModelStore(): Promise<string | undefined> {
  for (const path of ['/usr/share/ollama/.ollama/models', join(homedir(), '.ollama/models')]) {
    if (await exists(join(path, 'manifests'))) return path;
  }
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function stackName(host: string): string {
  const name = host
    .toLowerCase()
    .replace(/[^a-z0-9_.-]/g, '-')
    .replace(/^[^a-z0-9]+/, '');
  return name === '' ? 'stack' : name;
}

function renderCreated(
  settingsPath: string,
  settings: Settings,
  wrote: boolean,
  newKey: string | undefined,
): readonly string[] {
  return [
    `${wrote ? 'Wrote' : 'Kept'} ${settingsPath}`,
    `Created the repository ${settings.repository.path}`,
    ...(newKey === undefined
      ? []
      : [
          `Recovery key, kept in ${settings.repository.password_file ?? ''} and shown only this once:`,
          '',
          `    ${newKey}`,
          '',
          'Without it nobody can read the snapshots.',
          'Store a copy away from this machine, now.',
        ]),
  ];
}

const dryRun = 'tars backup --dry-run';

function renderFound(settingsPath: string, { components }: Settings): readonly string[] {
  const names = Object.keys(components);
  return [
    names.length === 0 ? 'No store answered on its usual port.' : `Found and filled in: ${names.join(', ')}.`,
    `Next: complete components and services in ${settingsPath},`,
    `then see what would be captured: ${dryRun}`,
  ];
}

function renderInventory(settingsPath: string, inventory: StackInventory): readonly string[] {
  const { project, seenThrough, stores, writers, files, leftOut, notes } = inventory;
  const through =
    seenThrough === 'files' ? ', seen through its Compose file alone: it has no containers' : '';
  const rows = stores.map(({ service, kind, how }) => [service, kind, how]);
  const problems = files.flatMap(({ path, problem }) =>
    problem === undefined ? [] : [`${path} ${problem}`],
  );
  const names = writers.map(({ service }) => service);
  return [
    `The project ${project}${through}`,
    rows.length === 0
      ? 'No store was recognised in it.'
      : formatTable(['SERVICE', 'STORE', 'RECOGNISED'], rows),
    `Paused for the cut: ${names.length === 0 ? 'nothing, as no service is known to write to the stores' : names.join(', ')}`,
    `Configuration: ${files.length - problems.length} files`,
    ...problems.map((problem) => `Not captured: ${problem}`),
    ...stores.flatMap(({ service, warning }) =>
      warning === undefined ? [] : [`Warning: ${service} ${warning}`],
    ),
    ...stores.flatMap(({ service, password }) =>
      password === 'needed'
        ? [`Warning: the password of ${service} is not known: give it in ${settingsPath}`]
        : [],
    ),
    ...notCapturedLines(
      leftOut.map(({ service, destination, type, source, sizeBytes }) => ({
        subject: `${service}:${destination}`,
        reason: type === 'volume' ? `volume ${source}` : source,
        ...(sizeBytes === undefined ? {} : { sizeBytes }),
      })),
    ),
    ...notes.map((note) => `Note: ${note}`),
    `Next: read ${settingsPath}, then see what would be captured: ${dryRun}`,
  ];
}

function renderSuggestion(
  suggestion: Awaited<ReturnType<typeof suggestInventory>>,
  settingsPath: string,
  { repository }: Settings,
): readonly string[] {
  if (suggestion === undefined) return [];
  return [
    `${suggestion.why}. To have it filled in,`,
    `remove ${settingsPath} and ${repository.path}, then run: tars init ${suggestion.flags}`,
  ];
}
