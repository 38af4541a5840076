import { startProgram } from '../disk/start-program.ts';
import { readFile } from 'node:fs/promises';
import { isThere } from '../disk/is-there.ts';
import { throwIfAborted } from '../model/abort.ts';
import { ConfigurationError, hasErrno, TarsError, toTarsError } from '../model/errors.ts';
import type { Settings } from './load.ts';
import type { Environment } from '../model/environment.ts';
import type { StoreSecrets } from '../ports/kind.ts';
import { readAsRestic, trimAsRestic } from './password-text.ts';

/** Long enough for a person to unlock a password manager; an unattended run must not wait for ever. */
const passwordCommandTimeoutMs = 120_000;

/** What a file held when a snapshot was taken; undefined when the snapshot does not hold it. */
export type CapturedFile = (path: string) => Promise<Uint8Array | undefined>;

/** A file's content without the line ends behind it. @throws TarsError naming the file, never its content */
async function readSecretFile(path: string, captured?: CapturedFile): Promise<string> {
  const text = (await readLiveOrCaptured(path, captured)).toString('utf8');
  return text.replace(/^\ufeff/, '').replace(/(\r?\n)+$/, '');
}

/** A restore onto an empty machine brings the file back only while it runs. */
async function readLiveOrCaptured(path: string, captured: CapturedFile | undefined): Promise<Buffer> {
  if (captured === undefined || (await isThere(path))) return readBytes(path);
  const bytes = await captured(path);
  return bytes === undefined ? readBytes(path) : Buffer.from(bytes);
}

/** A password of the repository, as restic reads the same file. @throws TarsError naming the file, never its content */
export async function readPasswordFile(path: string): Promise<string> {
  const { password } = await readBothWays(path);
  if (password !== undefined) return password;
  throw new ConfigurationError(`The password file ${path} is not text: it is not encoded in UTF-8`, {
    hint: 'Save it as UTF-8, or use a password of letters and digits only.',
  });
}

async function readBytes(path: string): Promise<Buffer> {
  return readFile(path).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw toTarsError(error, `Cannot read the secret file ${path}`);
    throw new ConfigurationError(`The secret file ${path} does not exist`, {
      hint: 'Correct the path, or write the secret into the file (mode 0600). If it is the key of a new repository, run tars init.',
      cause: error,
    });
  });
}

/** The repository's password as restic reads it, and as tars did up to 1.0.12 where that differs. */
interface RepositoryPassword {
  /** Undefined for a file that is no text. */
  readonly password: string | undefined;
  /** With the blanks around it: a key made then opens with this alone. */
  readonly before: string | undefined;
  /** Where it is from, such as a file's path. */
  readonly origin: string;
}

async function readBothWays(path: string): Promise<RepositoryPassword> {
  const bytes = await readBytes(path);
  const before = bytes.toString('utf8').replace(/\r?\n$/, '');
  return bothWays(readAsRestic(bytes), before, path);
}

const bothWays = (password: string | undefined, before: string, origin: string): RepositoryPassword => ({
  ...{ password, origin },
  before: before === password ? undefined : before,
});

/** A store's password from `password` or `password_file`; a missing file is read from `captured`. */
export async function componentPassword(
  { password, passwordFile }: StoreSecrets,
  captured?: CapturedFile,
): Promise<string | undefined> {
  return passwordFile === undefined ? password : readSecretFile(passwordFile, captured);
}

/**
 * Secrets beside the stores' passwords, for hiding them wherever they stand: the repository's password where finding it
 * out runs no command, and headers for authentication. A file that cannot be read is somebody else's finding.
 */
export async function furtherSecrets(
  { repository, components }: Settings,
  env: Environment,
): Promise<readonly string[]> {
  const files = [env['TARS_PASSWORD_FILE'], repository.password_file].filter((file) => file !== undefined);
  const contents = await Promise.all(files.map((file) => readPasswordFile(file).catch(() => undefined)));
  const headers = Object.values(components).flatMap(({ secrets }) => secrets.headers ?? []);
  const credentials = headers.map((header) => header.replace(/^(?:Bearer|Basic|Token)\s+/i, ''));
  return [env['TARS_PASSWORD'], ...contents, ...credentials].filter((secret) => secret !== undefined);
}

/**
 * The repository's password for a new key. See {@link repositoryPasswords}.
 * @throws ConfigurationError when nothing gives one, or restic would not open with it
 */
export async function repositoryPassword(
  repository: Settings['repository'],
  env: Environment,
  signal: AbortSignal,
): Promise<string> {
  const { password, origin } = await repositoryPasswords(repository, env, signal);
  return password ?? readPasswordFile(origin);
}

/**
 * The repository's password: TARS_PASSWORD, TARS_PASSWORD_FILE, TARS_PASSWORD_COMMAND (run by a shell), then
 * what the configuration names.
 * @throws ConfigurationError when nothing gives one
 */
export async function repositoryPasswords(
  repository: Settings['repository'],
  env: Environment,
  signal: AbortSignal,
): Promise<RepositoryPassword> {
  if (env['TARS_PASSWORD'])
    return { password: env['TARS_PASSWORD'], before: undefined, origin: 'TARS_PASSWORD' };
  if (env['TARS_PASSWORD_FILE']) return readBothWays(env['TARS_PASSWORD_FILE']);
  if (env['TARS_PASSWORD_COMMAND']) {
    return passwordFrom('TARS_PASSWORD_COMMAND', ['sh', '-c', env['TARS_PASSWORD_COMMAND']], signal);
  }
  if (repository.password_command) {
    return passwordFrom('repository.password_command', repository.password_command, signal);
  }
  if (repository.password_file !== undefined) return readBothWays(repository.password_file);
  throw new ConfigurationError(`No password for the repository ${repository.path}`, {
    hint: 'Set TARS_PASSWORD_FILE, or repository.password_file in tars.yaml.',
  });
}

async function passwordFrom(
  origin: string,
  [file, ...args]: readonly string[],
  signal: AbortSignal,
): Promise<RepositoryPassword> {
  const { failed, timedOut, stdout, exitCode } = await startProgram(
    file ?? '',
    args,
    {
      stdin: 'inherit',
      stderr: 'inherit',
      timeout: passwordCommandTimeoutMs,
      reject: false,
    },
    signal,
  );
  throwIfAborted(signal);
  if (!failed && stdout !== '') return bothWays(trimAsRestic(stdout), stdout, origin);
  // Its output may hold the password, so nothing of the failed run goes into the error.
  const hint = 'Run the command by hand: it must print the password and nothing else.';
  if (timedOut) {
    throw new TarsError('timeout', `${origin} gave no password within ${passwordCommandTimeoutMs / 1000} s`, {
      hint,
    });
  }
  const how = !failed
    ? 'printed nothing'
    : exitCode === undefined
      ? 'could not be completed'
      : `failed with exit code ${exitCode}`;
  throw new ConfigurationError(`${origin} ${how}`, { hint });
}
