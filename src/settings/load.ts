import { access, readFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { homeDirectory, stateDirectory } from '../disk/home.ts';
import { ConfigurationError, toTarsError } from '../model/errors.ts';
import type { SnapshotOwner } from '../model/snapshot.ts';
import { describeIssues } from './issues.ts';
import { absolutePath, localDirectory } from './local-path.ts';
import { spelledOut } from './redis-address.ts';
import type { ComponentSettings, SettingsFile } from './schema.ts';
import { parseTyped, substitute } from './variables.ts';
import type { Environment } from '../model/environment.ts';
import { readYaml } from './yaml.ts';

/** Settings with the directories filled in. */
export type Settings = SettingsFile & {
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
export async function loadSettings(explicit: string | undefined, env: Environment): Promise<Settings> {
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
  return parseSettings(text, path, env);
}

/** {@link loadSettings} for text already read. */
export function parseSettings(text: string, path: string, env: Environment): Settings {
  const { value: written, document, lines } = readYaml(text, path);
  const template = withFiles(withoutExtensions(written));
  const parsed = parseTyped(substitute(template, path, env), template);
  if (!parsed.success) {
    const issues = describeIssues(parsed.error.issues, document, lines);
    throw new ConfigurationError(`${path} is not right:\n${issues.map((line) => `  ${line}`).join('\n')}`, {
      hint: 'README.md shows a whole tars.yaml; so does the one that `tars init` writes.',
    });
  }
  const settings = { ...parsed.data, components: withAddresses(parsed.data.components, path) };
  requireConsistent(settings, path);
  const { components, ...resolved } = resolvePaths(settings, path, env);
  return { ...resolved, components: withOwnFile(components, path), holdsSecrets: holdsSecrets(written) };
}

const withAddresses = (components: SettingsFile['components'], path: string): SettingsFile['components'] =>
  Object.fromEntries(
    Object.entries(components).map(([name, component]) => [
      name,
      component.kind === 'redis' ? spelledOut(component, `${path}: component ${name}`) : component,
    ]),
  );

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

/** A stack that captures configuration captures `tars.yaml`, too, with the first component of the kind. */
function withOwnFile(components: Settings['components'], path: string): Settings['components'] {
  const configs = Object.entries(components).flatMap(([name, component]) =>
    component.kind === 'config' ? [{ name, component }] : [],
  );
  const [first] = configs;
  if (first === undefined || configs.some(({ component }) => component.files.includes(path)))
    return components;
  const { name, component } = first;
  return { ...components, [name]: { ...component, files: [...component.files, path] } };
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
function requireConsistent({ components, services, docker }: SettingsFile, path: string): void {
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
    if (component.kind === 'ollama' && component.path === undefined && docker === undefined) {
      throw new ConfigurationError(`${path}: component ${name} has no path`, {
        hint: 'Give the directory of the model store, the one with manifests/ and blobs/ in it.',
      });
    }
    if (component.kind === 'files') requirePlace(name, component, docker !== undefined, path);
    if ('password' in component && 'password_file' in component) {
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

function requirePlace(
  name: string,
  { paths, inside, service }: Extract<ComponentSettings, { kind: 'files' }>,
  hasDocker: boolean,
  path: string,
): void {
  const refuse = (what: string, hint: string): never => {
    throw new ConfigurationError(`${path}: component ${name} ${what}`, { hint });
  };
  if ((paths === undefined) === (inside === undefined))
    refuse(
      'needs either paths or inside',
      'Give paths: of this machine, or service: and inside: of a container.',
    );
  if (inside !== undefined && (service === undefined || !hasDocker))
    refuse(
      'has inside: without a container',
      'Add service:, and docker: to tars.yaml, or give paths: instead.',
    );
}

async function firstExisting(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

function resolvePaths(
  settings: SettingsFile,
  path: string,
  env: Environment,
): Omit<Settings, 'holdsSecrets'> {
  const base = dirname(path);
  const absolute = (value: string): string => absolutePath(base, value, env);
  const pathKeys = new Set([
    ...[
      'password_file',
      'data_dir',
      'client_bin_dir',
      'sslcert',
      'sslkey',
      'age_identity_file',
      'pid_file',
      'log_file',
      'path',
      ...['socket', 'cacert', 'cert', 'key'],
    ],
    ...['scratch_dir', 'state_dir'],
  ]);
  const pathListKeys = new Set(['files', 'paths', 'compose_files', 'env_files']);
  const walk = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') {
      const isPath = pathKeys.has(key) || (key === 'sslrootcert' && value !== 'system');
      return isPath ? absolute(value) : value;
    }
    if (Array.isArray(value))
      return pathListKeys.has(key) ? value.map((item) => absolute(String(item))) : value;
    if (typeof value !== 'object' || value === null || key === 'headers') return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, walk(v, k)]));
  };
  const resolved = walk(settings, '') as SettingsFile;
  return {
    ...resolved,
    repository: { ...resolved.repository, path: localDirectory(base, settings.repository.path, env) },
    settingsPath: path,
    host: resolved.host ?? hostname(),
    scratch_dir: resolved.scratch_dir ?? tmpdir(),
    state_dir: resolved.state_dir ?? defaultStateDirectory(path, env),
  };
}

function defaultStateDirectory(path: string, env: Environment): string {
  const parent = stateDirectory(env);
  if (parent !== undefined) return join(parent, 'tars');
  throw new ConfigurationError(
    `Nothing says where runs are recorded: ${path} has no state_dir, and HOME is not set`,
    {
      hint: `Add to ${path}, for example: state_dir: /var/lib/tars`,
    },
  );
}
