import { ConfigurationError, TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Service } from '../../ports/runtime.ts';
import { sendSignal } from '../process-table.ts';
import { requireCommand, runCommand } from './command.ts';
import { launch } from './launch.ts';
import { groupMembers, readPidFile } from './pid-file.ts';
import { unitState } from './systemd-unit.ts';

/** How one service is started, stopped and observed. What is more explicit wins: commands, systemd, pid file. */
export interface ProcessServiceOptions {
  /** Returns after the service has started. */
  readonly start?: readonly string[] | undefined;
  readonly stop?: readonly string[] | undefined;
  /** Exit code 0 means that it runs. */
  readonly status?: readonly string[] | undefined;
  /** A program that stays in the foreground; we launch it detached and write `pidFile`. */
  readonly command?: readonly string[] | undefined;
  readonly pidFile?: string | undefined;
  /** Takes the output of `command`, appended. */
  readonly logFile?: string | undefined;
  readonly systemdUnit?: string | undefined;
  /** Whom `command` runs as when we are root. */
  readonly user?: string | undefined;
  readonly dependsOn: readonly string[];
  readonly stopTimeoutMs: number;
  readonly startTimeoutMs: number;
}

const statusTimeoutMs = 10_000;
const pollMs = 50;

const observed = (options: ProcessServiceOptions): boolean =>
  options.status !== undefined || options.systemdUnit !== undefined || options.pidFile !== undefined;

/** True when we can stop it, see that it has stopped, and start it again. */
export function canStop(options: ProcessServiceOptions): boolean {
  const { start, stop, command, systemdUnit, pidFile } = options;
  const startable =
    start !== undefined || systemdUnit !== undefined || (command !== undefined && pidFile !== undefined);
  const stoppable = stop !== undefined || systemdUnit !== undefined || pidFile !== undefined;
  return startable && stoppable && observed(options);
}

/** By the status command, the unit or the pid file, whichever is there; `unknown` where none tells. */
export async function serviceState(
  options: ProcessServiceOptions,
  signal?: AbortSignal,
): Promise<Service['state']> {
  if (options.status !== undefined) {
    const limits = { timeoutMs: statusTimeoutMs, ...(signal === undefined ? {} : { signal }) };
    return (await runCommand(options.status, limits)).exitCode === 0 ? 'running' : 'stopped';
  }
  if (options.systemdUnit !== undefined) return unitState(options.systemdUnit, signal);
  if (options.pidFile === undefined) return 'unknown';
  const reading = await readPidFile(options.pidFile);
  switch (reading.kind) {
    case 'running':
      return reading.process.state === 'T' ? 'paused' : 'running';
    case 'orphans':
      return 'running';
    case 'doubtful':
      return 'unknown';
    case 'stopped':
      return 'stopped';
  }
}

/** Starts the service unless it runs. */
export async function startService(
  name: string,
  options: ProcessServiceOptions,
  ctx: OperationContext,
): Promise<void> {
  if (observed(options) && (await serviceState(options, ctx.signal)) === 'running') return;
  const limits = { timeoutMs: options.startTimeoutMs, signal: ctx.signal };
  const { start, command, pidFile, logFile, user, systemdUnit } = options;
  if (start !== undefined) return requireCommand(start, `start ${name}`, limits);
  if (systemdUnit !== undefined)
    return requireCommand(['systemctl', 'start', systemdUnit], `start ${name}`, limits);
  if (command !== undefined && pidFile !== undefined) {
    return launch({ service: name, command, pidFile, logFile, user }, ctx);
  }
  throw new ConfigurationError(`Cannot start ${name}: tars.yaml does not say how`, {
    hint: 'Give it start, systemd_unit, or command with pid_file in tars.yaml.',
  });
}

/**
 * Stops the service and waits until it has stopped. Never kills: a store that does not end in time keeps running.
 * @throws TarsError `timeout`
 */
export async function stopService(
  name: string,
  options: ProcessServiceOptions,
  ctx: OperationContext,
): Promise<void> {
  if (observed(options) && (await serviceState(options, ctx.signal)) === 'stopped') return;
  const deadlineMs = ctx.clock.monotonicMs() + options.stopTimeoutMs;
  const limits = { timeoutMs: options.stopTimeoutMs, signal: ctx.signal };
  const { stop, systemdUnit, pidFile } = options;
  const hasEnded = async (): Promise<boolean> => (await serviceState(options, ctx.signal)) === 'stopped';
  if (stop !== undefined) {
    await requireCommand(stop, `stop ${name}`, limits);
    if (observed(options))
      await waitForEnd(name, hasEnded, { ctx, deadlineMs, timeoutMs: options.stopTimeoutMs });
    return;
  }
  if (systemdUnit !== undefined) {
    await requireCommand(['systemctl', 'stop', systemdUnit], `stop ${name}`, limits);
    return waitForEnd(name, hasEnded, { ctx, deadlineMs, timeoutMs: options.stopTimeoutMs });
  }
  if (pidFile === undefined) {
    throw new ConfigurationError(`Cannot stop ${name}: tars.yaml does not say how`, {
      hint: 'Give it stop, systemd_unit or pid_file in tars.yaml.',
    });
  }
  const terminated = await terminate(name, pidFile);
  await waitForEnd(name, terminated, { ctx, deadlineMs, timeoutMs: options.stopTimeoutMs });
}

/**
 * Sends SIGTERM to the main process; what survives it in its process group gets one afterwards (a server behind a
 * shell wrapper). Returns a check for whether all of them have ended.
 */
async function terminate(name: string, pidFile: string): Promise<() => Promise<boolean>> {
  const reading = await readPidFile(pidFile);
  if (reading.kind === 'doubtful') {
    throw new TarsError(
      'service-unavailable',
      `Cannot stop ${name}: the process ${reading.process.pid} in ${pidFile} started after the file was written, and may be another program`,
      { hint: `Stop ${name} by hand and remove the file, or give the service stop and status commands.` },
    );
  }
  if (reading.kind === 'stopped') return () => Promise.resolve(true);
  const pids = reading.kind === 'running' ? [reading.process.pid] : reading.pids;
  for (const pid of pids) signalTo(name, pid);
  const leader = reading.kind === 'running' && reading.process.groupId === reading.process.pid;
  const groupId = leader ? reading.process.pid : undefined;
  const signalled = new Set(pids);
  return async () => {
    if ((await readPidFile(pidFile)).kind === 'running') return false;
    const left = groupId === undefined ? [] : await groupMembers(groupId);
    for (const pid of left) {
      if (!signalled.has(pid)) signalTo(name, pid);
      signalled.add(pid);
    }
    return left.length === 0 && (await readPidFile(pidFile)).kind === 'stopped';
  };
}

/** SIGTERM, and SIGCONT so that a paused process gets to see it. */
function signalTo(name: string, pid: number): void {
  try {
    sendSignal(pid, 'SIGTERM');
    sendSignal(pid, 'SIGCONT');
  } catch (cause) {
    throw toTarsError(cause, `Cannot stop ${name}`);
  }
}

async function waitForEnd(
  name: string,
  hasEnded: () => Promise<boolean>,
  limits: { readonly ctx: OperationContext; readonly deadlineMs: number; readonly timeoutMs: number },
): Promise<void> {
  const { ctx, deadlineMs, timeoutMs } = limits;
  while (!(await hasEnded())) {
    if (ctx.clock.monotonicMs() >= deadlineMs) {
      throw new TarsError('timeout', `${name} has not stopped within ${timeoutMs} ms`, {
        hint: 'tars asked it to stop, and it may still do so. Look at its log, then try again or raise stop_timeout_ms.',
      });
    }
    await ctx.clock.sleep(pollMs, ctx.signal);
  }
}
