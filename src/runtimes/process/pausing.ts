import { TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ResumeAction } from '../../ports/runtime.ts';
import { continueTree, processTable, processTree, sendSignal } from '../process-table.ts';
import { requireCommand } from './command.ts';
import { readPidFile } from './pid-file.ts';
import { readUnit } from './systemd-unit.ts';

/**
 * How a writer is kept from writing. With both commands given they are used; otherwise the process in `pidFile`, or
 * the main process of the systemd unit, and all its descendants (an application server's workers) get SIGSTOP, parents
 * first. Processes that left that tree by daemonising are not reached: they need commands.
 */
export interface ProcessWriterOptions {
  readonly pause?: readonly string[] | undefined;
  /** Must be harmless when the writer is not paused. */
  readonly resume?: readonly string[] | undefined;
  readonly pidFile?: string | undefined;
  readonly systemdUnit?: string | undefined;
}

/** Main processes of writers, by name. */
export interface WriterProcesses {
  /** How to resume them was told last; undefined for one that did not run. */
  readonly announced: Map<string, number | undefined>;
  /** Paused now. The pid file may have gone when they are to be resumed. */
  readonly frozen: Map<string, number>;
}

const commandTimeoutMs = 10_000;
/** A process in an uninterruptible system call stops only after it. */
const freezeTimeoutMs = 2000;
const resumeAttempts = 3;

type Commands = ProcessWriterOptions & { pause: readonly string[]; resume: readonly string[] };
const hasCommands = (writer: ProcessWriterOptions): writer is Commands =>
  writer.pause !== undefined && writer.resume !== undefined;

/** Whether anything says how the writer is paused; it may fail all the same. */
export const canPause = (writer: ProcessWriterOptions): boolean =>
  hasCommands(writer) || writer.pidFile !== undefined || writer.systemdUnit !== undefined;

/** The writer's main process; undefined when it does not run. @throws TarsError when that cannot be told */
async function writerPid(name: string, writer: ProcessWriterOptions): Promise<number | undefined> {
  const unit = writer.systemdUnit === undefined ? undefined : await readUnit(writer.systemdUnit);
  if (unit?.state === 'stopped' || unit?.mainPid !== undefined) return unit.mainPid;
  if (writer.pidFile === undefined) {
    const why = unit === undefined ? 'nothing says how' : 'systemd reports no main process for it';
    throw new TarsError('configuration', `The writer ${name} cannot be paused: ${why}`, {
      hint: 'Give it pause and resume commands, or a pid_file, in tars.yaml.',
    });
  }
  const reading = await readPidFile(writer.pidFile);
  if (reading.kind === 'running') return reading.process.pid;
  if (reading.kind === 'stopped') return undefined;
  throw new TarsError(
    'service-unavailable',
    `Cannot tell whether the writer ${name} runs: ${writer.pidFile} is stale`,
    {
      hint: 'Restart the writer so that it writes its pid file again, or give it pause and resume commands.',
    },
  );
}

/**
 * What the guardian does for this writer; undefined for one that does not run. @throws TarsError when its process
 * cannot be told
 */
export async function resumeAction(
  name: string,
  writer: ProcessWriterOptions,
  { announced }: WriterProcesses,
): Promise<ResumeAction | undefined> {
  if (hasCommands(writer)) return { kind: 'exec', argv: writer.resume };
  const pid = await writerPid(name, writer);
  announced.set(name, pid);
  return pid === undefined ? undefined : { kind: 'signal', pid, signal: 'SIGCONT' };
}

/**
 * Resolves once nothing of the writer runs any more; with false, at once, when no process of it is found.
 * @throws TarsError when it is another process than the one announced for being resumed
 */
export async function pauseWriter(
  name: string,
  writer: ProcessWriterOptions,
  { announced, frozen }: WriterProcesses,
  ctx: OperationContext,
): Promise<boolean> {
  if (hasCommands(writer)) {
    const limits = { timeoutMs: commandTimeoutMs, signal: ctx.signal };
    await requireCommand(writer.pause, `pause the writer ${name}`, limits);
    return true;
  }
  const pid = await writerPid(name, writer);
  if (pid === undefined) return false;
  // Nobody would resume this one if we died now.
  if (announced.has(name) && announced.get(name) !== pid)
    throw new TarsError('service-unavailable', `The writer ${name} was restarted just now`, {
      hint: 'Run the backup again.',
    });
  frozen.set(name, pid);
  try {
    await freezeTree(pid, name, ctx);
    return true;
  } catch (cause) {
    throw toTarsError(cause, `Cannot pause the writer ${name}`);
  }
}

/** A stopped parent cannot fork, so looking again until nothing new is found misses nobody. */
async function freezeTree(rootPid: number, name: string, ctx: OperationContext): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + freezeTimeoutMs;
  sendSignal(rootPid, 'SIGSTOP');
  const signalled = new Set([rootPid]);
  for (;;) {
    const tree = processTree(rootPid, await processTable());
    for (const { pid } of tree) {
      if (!signalled.has(pid)) sendSignal(pid, 'SIGSTOP');
      signalled.add(pid);
    }
    if (tree.every(({ state }) => state === 'T' || state === 't')) return;
    if (ctx.clock.monotonicMs() > deadlineMs) {
      throw new TarsError('timeout', `The writer ${name} did not stop within ${freezeTimeoutMs} ms`);
    }
    await ctx.clock.sleep(1, ctx.signal);
  }
}

/** Tried a few times; harmless for a writer that runs, does not run at all, or could not be paused. */
export async function resumeWriter(
  name: string,
  writer: ProcessWriterOptions,
  { frozen }: WriterProcesses,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      if (hasCommands(writer)) {
        const limits = { timeoutMs: commandTimeoutMs };
        await requireCommand(writer.resume, `resume the writer ${name}`, limits);
        return;
      }
      const pid = frozen.get(name) ?? (await findablePid(writer));
      if (pid !== undefined) await continueTree(pid);
      frozen.delete(name);
      return;
    } catch (cause) {
      if (attempt === resumeAttempts) throw toTarsError(cause, `Cannot resume the writer ${name}`);
    }
  }
}

/** Where it cannot be told which process that is, none of it was paused. */
async function findablePid({ pidFile, systemdUnit }: ProcessWriterOptions): Promise<number | undefined> {
  const unit = systemdUnit === undefined ? undefined : await readUnit(systemdUnit);
  if (unit?.mainPid !== undefined || pidFile === undefined) return unit?.mainPid;
  const reading = await readPidFile(pidFile);
  return reading.kind === 'running' ? reading.process.pid : undefined;
}
