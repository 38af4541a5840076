import { access, readFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { ConfigurationError, toTarsError } from '../model/errors.ts';
import { settingsSchema, type SettingsFile } from './schema.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Settings with the directories filled in. */
export type Settings = SettingsFile & {
  readonly settingsPath: string;
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
  const document = parseDocument(text);
  const [syntaxError] = document.errors;
  if (syntaxError) throw new ConfigurationError(`${path} is not valid YAML: ${syntaxError.message}`);
  const value = substitute(document.toJS(), path, env);
  const parsed = settingsSchema.safeParse(value);
  if (!parsed.success) {
    throw new ConfigurationError(`${path} is not right: ${z.prettifyError(parsed.error)}`, {
      hint: 'Compare with the commented file that `tars init` writes.',
    });
  }
  for (const [name, component] of Object.entries(parsed.data.components)) {
    if (component.service !== undefined && parsed.data.services[component.service] === undefined) {
      throw new ConfigurationError(
        `${path}: component ${name} names the service ${component.service}, which is not defined`,
      );
    }
  }
  return resolvePaths(parsed.data, path, env);
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
        throw new ConfigurationError(`${path} uses \${${name}}, which is not set in the environment`);
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

function resolvePaths(settings: SettingsFile, path: string, env: Environment): Settings {
  const base = dirname(path);
  const absolute = (value: string): string =>
    value.startsWith('~/') ? join(homedir(), value.slice(2)) : resolve(base, value);
  const pathKeys = new Set([
    ...['password_file', 'data_dir', 'client_bin_dir', 'age_identity_file', 'pid_file', 'log_file', 'path'],
    ...['scratch_dir', 'state_dir'],
  ]);
  const walk = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') return pathKeys.has(key) ? absolute(value) : value;
    if (Array.isArray(value)) return key === 'files' ? value.map((item) => absolute(String(item))) : value;
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
