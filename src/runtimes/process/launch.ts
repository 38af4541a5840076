import { startProgram } from '../../disk/start-program.ts';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { ConfigurationError, TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { childEnvironment } from '../child-environment.ts';
import { writePidFile } from './pid-file.ts';

/** A program to start, and as whom. */
interface LaunchOptions {
  readonly service: string;
  readonly command: readonly string[];
  readonly pidFile: string;
  readonly logFile: string | undefined;
  /** Undefined for the user this process runs as. */
  readonly user: string | undefined;
}

/** A program that cannot start (wrong flag, port taken) mostly says so within this time. */
const earlyExitMs = 300;
const logTailChars = 2000;

/**
 * Starts a foreground program in a session of its own, so that it outlives us, with its output appended to the log
 * file (0600), and records its pid.
 * @throws TarsError `subprocess` when it cannot be started or ends at once
 * @throws ConfigurationError when it is to run as a user who does not exist, or whom only root may become
 */
export async function launch(options: LaunchOptions, ctx: OperationContext): Promise<void> {
  const { service, command, pidFile, logFile, user } = options;
  const identity = user === undefined ? undefined : await switchUser(user, service);
  const [program = '', ...args] = [...(identity?.prefix ?? []), ...command];
  await using log = logFile === undefined ? undefined : await openLog(logFile);
  const output = log?.fd ?? 'ignore';
  // Not execa: the child must neither be awaited nor ended with us.
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', output, output],
    env: childEnvironment(identity?.env),
  });
  const exited = once(child, 'exit').catch(() => undefined);
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw toTarsError(cause, `Cannot start ${service}`);
  }
  child.unref();
  if (child.pid !== undefined) await writePidFile(pidFile, child.pid);
  await Promise.race([exited, ctx.clock.sleep(earlyExitMs, ctx.signal)]);
  const { exitCode, signalCode } = child;
  if (exitCode === null && signalCode === null) return;
  const tail = logFile === undefined ? '' : (await readFile(logFile, 'utf8')).slice(-logTailChars).trim();
  const how =
    exitCode === null ? `was ended by ${signalCode ?? 'a signal'}` : `ended at once with ${exitCode}`;
  throw new TarsError(
    'subprocess',
    `Cannot start ${service}: ${command[0] ?? ''} ${how}${tail && `: ${tail}`}`,
    {
      hint:
        logFile === undefined
          ? 'Give it a log_file in tars.yaml to see why.'
          : `Its output is in ${logFile}.`,
    },
  );
}

async function openLog(path: string): Promise<Awaited<ReturnType<typeof open>>> {
  try {
    return await open(path, 'a', 0o600);
  } catch (cause) {
    throw toTarsError(cause, `Cannot write the log file ${path}`);
  }
}

interface Identity {
  readonly prefix: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

function isOwnName(user: string): boolean {
  try {
    return userInfo().username === user;
  } catch {
    // A container's user may have no entry in the password database, and then has no name either.
    return false;
  }
}

/** setpriv(1) keeps the pid and, unlike a plain setuid, the user's further groups (a GPU's, say). */
async function switchUser(user: string, service: string): Promise<Identity | undefined> {
  if (isOwnName(user)) return undefined;
  if (process.getuid?.() !== 0) {
    throw new ConfigurationError(`Cannot start ${service} as ${user}: only root may switch users`, {
      hint: 'Run tars as root or as that user, or remove user from the service in tars.yaml.',
    });
  }
  const { stdout, exitCode } = await startProgram('getent', ['passwd', user], { reject: false });
  const [name, , uid, gid, , home] = stdout.split(':');
  if (exitCode !== 0 || name === undefined || uid === undefined || gid === undefined || home === undefined) {
    throw new ConfigurationError(`Cannot start ${service} as ${user}: there is no such user`);
  }
  return {
    prefix: ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'],
    env: { HOME: home, USER: name, LOGNAME: name },
  };
}
