import { throwIfAborted } from '../../../model/abort.ts';
import type { Environment } from '../../../model/environment.ts';
import { startProgram } from '../../../disk/start-program.ts';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parse } from 'yaml';
import { statIfThere } from '../../../disk/is-there.ts';
import { shellWord } from '../../../model/shell-word.ts';
import { ConfigurationError, TarsError } from '../../../model/errors.ts';
import { hideSecrets, secretsOfEnvironment } from '../../../model/hide-secrets.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import { childEnvironment } from '../../child-environment.ts';
import { readShellFile, shellFileName } from './shell-file.ts';
import { composeModel, type ComposeModel } from './compose-model.ts';

/** The operator's own Docker Compose. */
export interface ComposeCli {
  readonly command: readonly string[];
  readonly major: number;
  /** Such as `2.26.1`; a distribution's own number is left out, as it is on what Compose makes. */
  readonly version: string;
}

/** Which project of which files Compose works on. */
export interface ComposeFiles {
  readonly project: string;
  /** Absolute; the first one's directory is where relative paths start unless `directory` says otherwise. */
  readonly files: readonly string[];
  readonly envFiles: readonly string[];
  readonly directory: string;
  /** Beside those of files and of this process, and before them. */
  readonly variables?: Environment;
}

const composeTimeoutMs = 300_000;
const candidates = [['docker', 'compose'], ['docker-compose']] as const;

/**
 * Finds Compose: the plugin of the docker command, or the program of its own, of version 1 or 2.
 * @param like the version that made the project; one of the same major version goes first
 */
export async function findComposeCli(
  like: string | undefined,
  signal: AbortSignal,
): Promise<ComposeCli | undefined> {
  const found: ComposeCli[] = [];
  for (const command of candidates) {
    const [file, ...args] = command;
    const { stdout, failed } = await startProgram(
      file,
      [...args, 'version', '--short'],
      {
        ...{ reject: false, stdin: 'ignore', extendEnv: false, env: childEnvironment() },
      },
      signal,
    );
    throwIfAborted(signal);
    const version = failed ? undefined : /^v?(\d+(?:\.\d+)+)/.exec(stdout.trim())?.[1];
    if (version !== undefined) found.push({ command, major: Number.parseInt(version, 10), version });
  }
  const old = like?.startsWith('1.') === true;
  return found.find(({ major }) => (major === 1) === old) ?? found[0];
}

/** What to do where there is no Compose at all. */
export const installCompose =
  'Install Docker Compose: the package docker-compose-plugin of docker.com, or docker-compose-v2 or docker-compose of the distribution. Then run this again.';

/** Runs Compose on one project of one Engine. */
export class ComposeProject {
  readonly #cli: ComposeCli;
  readonly #address: EngineAddress;
  readonly #files: ComposeFiles;

  constructor(cli: ComposeCli, address: EngineAddress, files: ComposeFiles) {
    this.#cli = cli;
    this.#address = address;
    this.#files = files;
  }

  /** @throws ConfigurationError when Compose cannot read the files */
  async model(ctx: OperationContext): Promise<ComposeModel> {
    return composeModel(await this.config(ctx), this.#files.project, this.#cli.major);
  }

  /** The files in one, with every variable put in. @throws ConfigurationError when Compose cannot read them */
  async config(ctx: OperationContext): Promise<unknown> {
    // Services of profiles are part of it: without them others may depend on nothing.
    return parse(await this.#run([...this.#allProfiles, 'config'], ctx));
  }

  /** For each service, also those of profiles, Compose's digest of the definition of its container. */
  async hashes(ctx: OperationContext): Promise<ReadonlyMap<string, string>> {
    const lines = (await this.#run([...this.#allProfiles, 'config', '--hash', '*'], ctx)).split('\n');
    return new Map(
      lines.flatMap((line) => {
        const [service, hash] = line.trim().split(/\s+/);
        return service === undefined || hash === undefined ? [] : [[service, hash] as const];
      }),
    );
  }

  /**
   * Creates containers, volumes and networks; starts, pulls, builds and replaces nothing. The type requires a name,
   * because Compose takes none for every service.
   */
  async create(services: readonly [string, ...string[]], ctx: OperationContext): Promise<void> {
    // Version 1 pulls only what is not here, which was looked at before.
    const pull = this.#cli.major === 1 ? [] : ['--pull', 'never'];
    await this.#run(['up', '--no-start', '--no-recreate', '--no-build', ...pull, ...services], ctx);
  }

  /** Version 1 has no pattern for profiles. */
  get #allProfiles(): readonly string[] {
    return this.#cli.major === 1 ? [] : ['--profile', '*'];
  }

  async #run(args: readonly string[], ctx: OperationContext): Promise<string> {
    const { project, files, envFiles, directory } = this.#files;
    const [file = '', ...own] = this.#cli.command;
    const all = [
      ...own,
      ...files.flatMap((path) => ['-f', path]),
      ...envFiles.flatMap((path) => ['--env-file', path]),
      ...['--project-directory', directory, '-p', project, ...args],
    ];
    const result = await startProgram(
      file,
      all,
      {
        ...{ reject: false, stdin: 'ignore', extendEnv: false, env: await this.#environment() },
        ...{ cwd: directory, timeout: composeTimeoutMs, maxBuffer: 16 * 2 ** 20 },
      },
      ctx.signal,
    );
    if (!result.failed) {
      const unset = unsetVariables(result.stderr);
      if (unset.length > 0)
        ctx.log.warn(`Docker Compose: no value is set for ${unset.join(', ')}, so each counts as empty`);
      return result.stdout;
    }
    throwIfAborted(ctx.signal, ctx.signal.reason);
    throw this.#failure([file, ...all], args, await masked(result.stderr, this.#files), result.timedOut);
  }

  #failure(
    command: readonly string[],
    args: readonly string[],
    stderr: string,
    timedOut: boolean,
  ): TarsError {
    const what = args.includes('config') ? 'read the files of' : 'create the containers of';
    const lines = stderr.split('\n').filter((line) => line.trim() !== '');
    const said = timedOut ? 'it took too long' : lines.slice(-4).join('; ') || 'it did not say why';
    const message = `Docker Compose cannot ${what} the project ${this.#files.project}: ${said}`;
    const hint = `Try it by hand: ${command.map(shellWord).join(' ')}`;
    return args.includes('config')
      ? new ConfigurationError(message, { hint })
      : new TarsError('subprocess', message, { hint });
  }

  /**
   * The Engine tars talks to, whatever context the docker command has chosen; and below what this process has, the
   * variables that a restore brought back.
   */
  async #environment(): Promise<NodeJS.ProcessEnv> {
    const { host, certDir } = this.#address;
    const tls = certDir === undefined ? {} : { DOCKER_CERT_PATH: certDir, DOCKER_TLS_VERIFY: '1' };
    const { DOCKER_CONTEXT: _context, ...env } = childEnvironment({ DOCKER_HOST: host, ...tls });
    return { ...(await readShellFile(this.#files.directory)), ...env, ...this.#files.variables };
  }
}

/** What Compose said, without the secrets of the environment files: it quotes lines that it cannot read. */
async function masked(text: string, { envFiles, directory, variables }: ComposeFiles): Promise<string> {
  const lines = Object.entries(variables ?? {}).map(([name, value]) => `${name}=${value ?? ''}`);
  for (const path of [...envFiles, resolve(directory, '.env'), resolve(directory, shellFileName)])
    lines.push(...(await readFile(path, 'utf8').catch(() => '')).split('\n'));
  return hideSecrets(text, secretsOfEnvironment(lines));
}

/** The files of a project that are not there. @throws TarsError when that cannot be told */
export async function missingFiles(paths: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(paths.map(statIfThere));
  return paths.filter((_, i) => found[i] === undefined);
}

/** The names in Compose's warnings `The "NAME" variable is not set`, each once; Compose quotes its messages or not. */
export const unsetVariables = (stderr: string): string[] => [
  ...new Set([...stderr.matchAll(/\bThe \\?"?(\w+)\\?"? variable is not set/g)].map(([, name = '']) => name)),
];
