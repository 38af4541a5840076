import { readFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { isVisible } from '../disk/is-there.ts';
import { homeDirectory, stateDirectory } from '../disk/home.ts';
import { ConfigurationError, toTarsError } from '../model/errors.ts';
import type { SnapshotOwner } from '../model/snapshot.ts';
import { describeIssues } from './issues.ts';
import { absolutePath, localDirectory } from './local-path.ts';
import { settingsSchema, type SettingsFile } from './schema.ts';
import { parseTyped, substitute } from './variables.ts';
import type { Environment } from '../model/environment.ts';
import type { ConfiguredComponent, Kinds } from '../ports/kind.ts';
import { readYaml } from './yaml.ts';

/** Settings with the directories filled in. */
export type Settings = Omit<SettingsFile, 'components'> & {
  readonly components: Readonly<Record<string, ConfiguredComponent>>;
  readonly settingsPath: string;
  /** The file itself holds a secret, instead of naming a file or a variable that does. */
  readonly holdsSecrets: boolean;
  readonly host: string;
  readonly scratch_dir: string;
  readonly state_dir: string;
};

/** Whose snapshots are those of this `tars.yaml`. */
export const ownerOf = ({ stack, host }: Settings): SnapshotOwner => ({ stack, hostname: host });

/** Where `tars.yaml` is looked for, in order. */
export function settingsCandidates(explicit: string | undefined, env: Environment): string[] {
  const named = explicit ?? env['TARS_CONFIG'];
  if (named !== undefined) return [resolve(named)];
  const home = homeDirectory(env);
  return [
    resolve('tars.yaml'),
    ...(home === undefined ? [] : [join(home, '.config/tars/tars.yaml')]),
    '/etc/tars/tars.yaml',
  ];
}

/**
 * Finds, reads and checks `tars.yaml`. `${NAME}` in any string is replaced from `env` (`$${` stays `${`);
 * relative paths are taken from the file's own directory.
 * @throws ConfigurationError naming the file and the field
 */
export async function loadSettings(
  explicit: string | undefined,
  env: Environment,
  kinds: Kinds,
): Promise<Settings> {
  const candidates = settingsCandidates(explicit, env);
  const path = await firstExisting(candidates);
  if (path === undefined) {
    throw new ConfigurationError(`Found no configuration at ${candidates.join(', ')}`, {
      hint: 'Write one with: tars init',
    });
  }
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw toTarsError(error, `Cannot read ${path}`);
  });
  return parseSettings(text, path, env, kinds);
}

/** {@link loadSettings} for text already read. */
export function parseSettings(text: string, path: string, env: Environment, kinds: Kinds): Settings {
  const { value: written, document, lines } = readYaml(text, path);
  const template = withFiles(withoutExtensions(written));
  const base = dirname(path);
  const schema = settingsSchema(kinds, (value) => absolutePath(base, value, env));
  const parsed = parseTyped(schema, substitute(template, path, env), template);
  if (!parsed.success) {
    const names = kinds.map(({ name }) => name);
    const issues = describeIssues(parsed.error.issues, names, document, lines);
    throw new ConfigurationError(`${path} is not valid:\n${issues.map((line) => `  ${line}`).join('\n')}`, {
      hint: 'README.md shows a whole tars.yaml; so does the one that `tars init` writes.',
    });
  }
  const settings = { ...parsed.data, components: completed(parsed.data, path) };
  requireConsistent(settings, path);
  requireProject(settings, path);
  return {
    ...settings,
    components: withOwnFile(settings.components, path),
    repository: {
      ...settings.repository,
      path: localDirectory(base, settings.repository.path, env),
    },
    settingsPath: path,
    holdsSecrets: holdsSecrets(written),
    host: settings.host ?? hostname(),
    scratch_dir: settings.scratch_dir ?? tmpdir(),
    state_dir: settings.state_dir ?? defaultStateDirectory(path, env),
  };
}

function completed({ components, docker }: SettingsFile, path: string): Settings['components'] {
  const hasDocker = docker !== undefined;
  return Object.fromEntries(
    Object.entries(components).map(([name, component]) => [
      name,
      component.complete({ name, hasDocker, label: `${path}: component ${name}` }),
    ]),
  );
}

/** Keys such as `x-common:` hold what the rest of the file refers to by aliases, as in Compose files. */
function withoutExtensions(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('x-')));
}

/** `files: [DIRECTORY]` at the top is short for a component of that name. */
function withFiles(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('files' in value)) return value;
  const { files, ...rest } = value;
  const components = 'components' in rest ? (rest.components ?? {}) : {};
  if (typeof components !== 'object' || 'files' in components) return value;
  return { ...rest, components: { ...components, files: { kind: 'files', paths: files } } };
}

/** A stack that captures configuration captures `tars.yaml`, too, with the first component that does. */
function withOwnFile(components: Settings['components'], path: string): Settings['components'] {
  const configurations = Object.entries(components).flatMap(([name, { configuration }]) =>
    configuration === undefined ? [] : [{ name, configuration }],
  );
  const [first] = configurations;
  if (first === undefined || configurations.some(({ configuration }) => configuration.files.includes(path)))
    return components;
  return { ...components, [first.name]: first.configuration.with(path) };
}

/** True when a password or a header for authentication is spelt out. */
function holdsSecrets(value: unknown, key = ''): boolean {
  if (typeof value === 'string') {
    const secret =
      key === 'url' ? /:\/\/[^/@]*:(.+)@/.exec(value)?.[1] : key === 'password' ? value : undefined;
    return secret !== undefined && !/^\$\{\w+\}$/.test(secret);
  }
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, item]) =>
    holdsSecrets(item, key === 'headers' ? 'password' : name),
  );
}

/** What the parts of the file say about one another. */
function requireConsistent(
  { components, services, docker }: Pick<Settings, 'components' | 'services' | 'docker'>,
  path: string,
): void {
  const requireService = (user: string, service: string): void => {
    if (services[service] !== undefined) return;
    const known = Object.keys(services);
    throw new ConfigurationError(`${path}: ${user} names the service ${service}, which is not defined`, {
      hint: `Define it under services: (${known.length === 0 ? 'empty so far' : `there are ${known.join(', ')}`}).`,
    });
  };
  for (const [name, component] of Object.entries(components)) {
    // Which services a Compose project has, the Engine knows.
    if (component.service !== undefined && docker === undefined) {
      requireService(`component ${name}`, component.service);
    }
    const { password, passwordFile } = component.secrets;
    if (password !== undefined && passwordFile !== undefined) {
      throw new ConfigurationError(`${path}: component ${name} has both password and password_file`, {
        hint: 'Keep one of them.',
      });
    }
  }
  for (const [name, { depends_on: needed, pause, resume }] of Object.entries(services)) {
    if (docker === undefined)
      for (const service of needed) requireService(`depends_on of service ${name}`, service);
    if ((pause === undefined) !== (resume === undefined)) {
      throw new ConfigurationError(`${path}: service ${name} has only one of pause and resume`, {
        hint: 'Give both, or neither and a pid_file.',
      });
    }
  }
}

/** What services keep is known only of a Compose project. */
function requireProject(
  { docker, everything, leave_out: leaveOut }: Pick<SettingsFile, 'docker' | 'everything' | 'leave_out'>,
  path: string,
): void {
  const key = everything ? 'everything' : Object.keys(leaveOut).length > 0 ? 'leave_out' : undefined;
  if (key === undefined || docker !== undefined) return;
  throw new ConfigurationError(`${path}: ${key} is for a Compose project, and there is no docker: section`, {
    hint: `Remove ${key}. To capture a directory of this machine, add a component with kind: files and paths:.`,
  });
}

async function firstExisting(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    if (await isVisible(path)) return path;
  }
  return undefined;
}

function defaultStateDirectory(path: string, env: Environment): string {
  const parent = stateDirectory(env);
  if (parent !== undefined) return join(parent, 'tars');
  throw new ConfigurationError(
    `There is no place to record runs: ${path} has no state_dir, and HOME is not set`,
    {
      hint: `Add to ${path}, for example: state_dir: /var/lib/tars`,
    },
  );
}
