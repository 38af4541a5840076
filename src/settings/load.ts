import { access, readFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { LineCounter, parseDocument, visit, type Document } from 'yaml';
import { ConfigurationError, toTarsError } from '../model/errors.ts';
import { describeIssues } from './issues.ts';
import { settingsSchema, type ComponentSettings, type SettingsFile } from './schema.ts';

/** The variables of a process's environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Settings with the directories filled in. */
export type Settings = SettingsFile & {
  readonly settingsPath: string;
  /** The file itself holds a secret, instead of naming a file or a variable that does. */
  readonly holdsSecrets: boolean;
  readonly scratch_dir: string;
  readonly state_dir: string;
};

/** Where `tars.yaml` is looked for, in order. */
export function settingsCandidates(explicit: string | undefined, env: Environment): string[] {
  const named = explicit ?? env['TARS_CONFIG'];
  if (named !== undefined) return [resolve(named)];
  return [resolve('tars.yaml'), join(homedir(), '.config/tars/tars.yaml'), '/etc/tars/tars.yaml'];
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
  const lines = new LineCounter();
  // The parser's own messages quote the lines concerned, which may hold a password.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [syntaxError] = document.errors;
  if (syntaxError) {
    const { line, col } = lines.linePos(syntaxError.pos[0]);
    throw new ConfigurationError(
      `${path} is not valid YAML: line ${line}, column ${col}: ${syntaxError.message}`,
      { hint: 'Correct that line; indent with spaces, and quote values with special characters.' },
    );
  }
  const written = valueOf(document, lines, path);
  const value = substitute(withFiles(written), path, env);
  const parsed = settingsSchema.safeParse(value);
  if (!parsed.success) {
    const issues = describeIssues(parsed.error.issues, document, lines);
    throw new ConfigurationError(`${path} is not right:\n${issues.map((line) => `  ${line}`).join('\n')}`, {
      hint: 'README.md shows a whole tars.yaml; so does the one that `tars init` writes.',
    });
  }
  requireConsistent(parsed.data, path);
  return { ...resolvePaths(parsed.data, path, env), holdsSecrets: holdsSecrets(written) };
}

/** @throws ConfigurationError for aliases that lead nowhere, into themselves or to an endless text */
function valueOf(document: Document.Parsed, lines: LineCounter, path: string): unknown {
  visit(document, {
    Alias(_key, alias, ancestors) {
      const target = alias.resolve(document);
      if (target !== undefined && !ancestors.includes(target)) return;
      const { line } = lines.linePos(alias.range?.[0] ?? 0);
      const what = target === undefined ? 'is of no anchor before it' : 'means what it stands in itself';
      // Its name is not said: it may be a password that begins with an asterisk.
      throw new ConfigurationError(`${path}, line ${line}: the alias there (*…) ${what}`, {
        hint: 'Quote the value if it is no alias but text that begins with *.',
      });
    },
  });
  try {
    return document.toJS() as unknown;
  } catch (cause) {
    throw new ConfigurationError(`${path} repeats itself by aliases too often`, {
      hint: 'Write the values out instead.',
      cause,
    });
  }
}

/** `files: [DIRECTORY]` at the top is short for a component of that name. */
function withFiles(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('files' in value)) return value;
  const { files, ...rest } = value;
  const components = 'components' in rest ? (rest.components ?? {}) : {};
  if (typeof components !== 'object' || 'files' in components) return value;
  return { ...rest, components: { ...components, files: { kind: 'files', paths: files } } };
}

/** True when a password or a header for authentication is spelt out. */
function holdsSecrets(value: unknown, key = ''): boolean {
  if (typeof value === 'string') return key === 'password' && !/^\$\{\w+\}$/.test(value);
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

function substitute(value: unknown, path: string, env: Environment): unknown {
  if (typeof value === 'string') {
    return value.replace(/(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (whole, escaped: string, name: string) => {
      if (escaped !== '') return whole.slice(1);
      const replacement = env[name];
      if (replacement === undefined) {
        throw new ConfigurationError(`${path} uses \${${name}}, which is not set in the environment`, {
          hint: `Set it, or write $\${${name}} where the text itself is meant.`,
        });
      }
      return replacement;
    });
  }
  if (Array.isArray(value)) return value.map((item) => substitute(item, path, env));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, substitute(item, path, env)]));
  }
  return value;
}

/** A path as an operator writes it: `~/` is home, what is relative starts at `base`. */
export const absolutePath = (base: string, path: string): string =>
  path.startsWith('~/') ? join(homedir(), path.slice(2)) : resolve(base, path);

function resolvePaths(
  settings: SettingsFile,
  path: string,
  env: Environment,
): Omit<Settings, 'holdsSecrets'> {
  const base = dirname(path);
  const absolute = (value: string): string => absolutePath(base, value);
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
  const stateHome = env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state');
  return {
    ...resolved,
    settingsPath: path,
    scratch_dir: resolved.scratch_dir ?? tmpdir(),
    state_dir: resolved.state_dir ?? join(stateHome, 'tars'),
  };
}
