import { execa } from 'execa';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chown, mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { ServiceUnavailableError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';

/** A private server of one kind: its own directory and port, nothing shared with the system's instance. */
export interface PrivateServer extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly dataDir: string;
  readonly pidFile: string;
  /** Commands as an operator would write them into `tars.yaml`. They return when the server is up or down. */
  readonly startCommand: readonly string[];
  readonly stopCommand: readonly string[];
  /** Starts it (again) and waits until it answers. */
  start(): Promise<void>;
  /** Stops what runs as this server now, whoever started it; harmless when nothing does. */
  stop(): Promise<void>;
}

/** Below it are well-known services. */
const lowestPort = 10_240;
/** Linux's default, for where the kernel does not say. */
const defaultEphemeralPort = 32_768;
const portAttempts = 5;

/**
 * A TCP port nobody listens on right now, from below the range the kernel gives to outgoing connections and to
 * whoever asks for any port: those come and go between choosing a port and binding it.
 */
export async function freePort(): Promise<number> {
  const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').catch(() => '');
  const ephemeral = Number(/^\d+/.exec(range)?.[0] ?? defaultEphemeralPort);
  // A kernel that gives out nearly all ports leaves no such choice.
  const end = ephemeral > lowestPort ? ephemeral : 65_536;
  const start = randomInt(lowestPort, end);
  for (let port = start; port < end; port++) if (await isFree(port)) return port;
  for (let port = lowestPort; port < start; port++) if (await isFree(port)) return port;
  throw new ServiceUnavailableError(`Cannot find a free port from ${lowestPort} to ${end - 1}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

/** Chooses the port of a server; {@link freePort} unless told otherwise. */
export type PickPort = () => Promise<number>;

/**
 * Starts a server on a port of `pick`, and on another one when somebody else took the first in between. `start`
 * must have ended its process when it fails.
 */
export async function onFreePort<Server>(
  pick: PickPort,
  start: (port: number) => Promise<Server>,
): Promise<Server> {
  for (let attempt = 1; ; attempt++) {
    const port = await pick();
    try {
      return await start(port);
    } catch (error) {
      if (attempt === portAttempts || (await isFree(port))) throw error;
    }
  }
}

/** The user a server runs as: PostgreSQL refuses to run as root. */
export interface RunAs {
  readonly uid: number;
  readonly gid: number;
  readonly prefix: readonly string[];
}

/** The system user `name` when we are root, ourselves otherwise. */
export async function runAs(name: string): Promise<RunAs> {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  if (uid !== 0) return { uid, gid, prefix: [] };
  const [own, group] = await Promise.all([execa('id', ['-u', name]), execa('id', ['-g', name])]);
  return { uid: Number(own.stdout), gid: Number(group.stdout), prefix: ['runuser', '-u', name, '--'] };
}

/** Creates `path` (0700) for `user`. */
export async function privateDirectory(path: string, user: RunAs): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chown(path, user.uid, user.gid);
}

/** Polls `attempt` until it succeeds. @throws ServiceUnavailableError with the last cause after `timeoutMs` */
export async function waitUntil(
  what: string,
  attempt: () => Promise<unknown>,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
  timeoutMs = 60_000,
): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + timeoutMs;
  for (;;) {
    try {
      await attempt();
      return;
    } catch (cause) {
      if (ctx.clock.monotonicMs() > deadlineMs) {
        throw new ServiceUnavailableError(`Not within ${timeoutMs} ms: ${what}`, { cause });
      }
      await ctx.clock.sleep(50, ctx.signal);
    }
  }
}
