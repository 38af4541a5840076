import { execa } from 'execa';
import { chown, mkdir } from 'node:fs/promises';
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
  /** Stops it cleanly; harmless when it does not run. */
  stop(): Promise<void>;
}

/** A TCP port nobody listens on right now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string')
    throw new ServiceUnavailableError('Cannot find a free port');
  return address.port;
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
        throw new ServiceUnavailableError(`${what} did not come up within ${timeoutMs} ms`, { cause });
      }
      await ctx.clock.sleep(50, ctx.signal);
    }
  }
}
