import type { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { access, mkdir, open, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir, hostname } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { createStore } from '../../compose.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import { loadSettings, settingsCandidates, type Settings } from '../../settings/load.ts';
import { repositoryPassword } from '../../settings/secrets.ts';
import { settingsTemplate } from '../../settings/template.ts';
import { exitCodes } from '../exit-codes.ts';
import { runVerb, type Session, type Surroundings } from '../session.ts';

interface InitFlags {
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
    .option('--repository <dir>', 'where snapshots go (default: ./tars-repository)')
    .option('--stack <name>', 'name of the stack (default: the host name)')
    .option('--key-file <file>', 'where the recovery key goes (default: tars-recovery.key beside tars.yaml)')
    .addHelpText(
      'after',
      '\nAn existing tars.yaml is kept: only what is missing is created.\n\nExample:\n  tars init --repository /mnt/backup/tars',
    )
    .action((flags: InitFlags, command: Command) =>
      runVerb(command, surroundings, (session) => run(session, flags)),
    );
}

async function run(session: Session, flags: InitFlags): Promise<number> {
  const { audience, env, configPath } = session;
  const settingsPath = settingsCandidates(configPath, env)[0] ?? 'tars.yaml';
  const wroteSettings = !(await exists(settingsPath));
  if (wroteSettings) await writeSettings(settingsPath, flags);
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
  const value = { settings: settingsPath, repository: settings.repository.path, keyFile, wroteSettings };
  audience.result(value, renderInit(settingsPath, settings, wroteSettings, newKey));
  return exitCodes.success;
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
function refuseOtherWishes({ settingsPath, stack, repository }: Settings, flags: InitFlags): void {
  const absolute = (path: string | undefined): string | undefined =>
    path === undefined ? path : resolve(path);
  const wishes = [
    ['--repository', absolute(flags.repository), repository.path],
    ['--stack', flags.stack, stack],
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

async function writeSettings(settingsPath: string, flags: InitFlags): Promise<void> {
  const directory = dirname(settingsPath);
  const ollamaPath = await findModelStore();
  const found = await findStores();
  const text = settingsTemplate({
    stack: flags.stack ?? stackName(hostname()),
    repositoryPath: resolve(flags.repository ?? 'tars-repository'),
    passwordFile: resolve(flags.keyFile ?? join(directory, 'tars-recovery.key')),
    found: ollamaPath === undefined ? found : new Set([...found, 'ollama'] as const),
    ollamaPath: ollamaPath ?? '/usr/share/ollama/.ollama/models',
  });
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

function renderInit(
  settingsPath: string,
  settings: Settings,
  wrote: boolean,
  newKey: string | undefined,
): string {
  const components = Object.keys(settings.components);
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
    components.length === 0
      ? 'No store answered on its usual port.'
      : `Found and filled in: ${components.join(', ')}.`,
    `Next: complete components and services in ${settingsPath},`,
    'then see what would be captured: tars backup --dry-run',
  ].join('\n');
}
