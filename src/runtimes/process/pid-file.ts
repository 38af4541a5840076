import { readFile, stat } from 'node:fs/promises';
import { whenMissing } from '../../disk/is-there.ts';
import { replaceDurably } from '../../disk/durable-file.ts';
import { toTarsError } from '../../model/errors.ts';
import { processTable, readProcess, type ProcessStat } from '../process-table.ts';

/**
 * What a pid file says about its service. `doubtful`: the process started well after the file was written, so the
 * pid has probably been given to another program; a clock that was set meanwhile looks the same, which is why it
 * is not taken for stopped.
 */
type PidFileReading =
  | { readonly kind: 'running'; readonly process: ProcessStat }
  /** Its main process ended, processes of its group run on; only told for services tars launched. */
  | { readonly kind: 'orphans'; readonly pids: readonly number[] }
  | { readonly kind: 'doubtful'; readonly process: ProcessStat }
  | { readonly kind: 'stopped' };

/** /proc/stat counts the boot time in whole seconds, start times in hundredths (USER_HZ is 100 everywhere). */
const ticksPerSecond = 100;
const toleranceMs = 3000;

/** @throws TarsError when the file exists and cannot be read */
export async function readPidFile(path: string): Promise<PidFileReading> {
  const text = await readText(path);
  const pid = Number(/^\s*(\d+)/.exec(text)?.[1] ?? 0);
  if (pid <= 1) return { kind: 'stopped' };
  const found = await readProcess(pid);
  const record = await readLaunch(path, pid);
  if (record === undefined) {
    if (found === undefined) return { kind: 'stopped' };
    const writtenMs = await modifiedMs(path);
    // The service has just ended, and taken its file along.
    if (writtenMs === undefined) return { kind: 'stopped' };
    const late = (await startedMs(found)) > writtenMs + toleranceMs;
    return { kind: late ? 'doubtful' : 'running', process: found };
  }
  if (record.bootId !== (await bootId())) return { kind: 'stopped' };
  if (found?.startTicks === record.startTicks) return { kind: 'running', process: found };
  if (found !== undefined) return { kind: 'stopped' };
  const pids = await groupMembers(pid);
  return pids.length > 0 ? { kind: 'orphans', pids } : { kind: 'stopped' };
}

/** Live processes of a process group. */
export async function groupMembers(groupId: number): Promise<number[]> {
  return (await processTable()).filter((each) => each.groupId === groupId).map(({ pid }) => pid);
}

/**
 * Records a process that tars launched: its pid in the file itself, which others read too, and beside it, in
 * `PATH.tars`, what tells it from a later process of the same pid.
 */
export async function writePidFile(path: string, pid: number): Promise<void> {
  const started = await readProcess(pid);
  try {
    await replaceDurably(path, `${pid}\n`);
    await replaceDurably(launchFileOf(path), `${pid} ${started?.startTicks ?? 0} ${await bootId()}\n`);
  } catch (cause) {
    throw toTarsError(cause, `Cannot write the pid file ${path}`);
  }
}

const launchFileOf = (path: string): string => `${path}.tars`;

interface Launch {
  readonly startTicks: number;
  readonly bootId: string;
}

/** Undefined when `pid` was written by something else, be it the same number again. */
async function readLaunch(path: string, pid: number): Promise<Launch | undefined> {
  const launchFile = launchFileOf(path);
  const record = /^(\d+) (\d+) (\S+)\n$/.exec(await readText(launchFile));
  if (record === null || Number(record[1]) !== pid) return undefined;
  const [pidWrittenMs = 0, launchWrittenMs = 0] = await Promise.all([
    modifiedMs(path),
    modifiedMs(launchFile),
  ]);
  if (pidWrittenMs > launchWrittenMs) return undefined;
  return { startTicks: Number(record[2]), bootId: record[3] ?? '' };
}

/** Undefined for a file that has gone meanwhile. */
async function modifiedMs(path: string): Promise<number | undefined> {
  const stats = await stat(path).catch(whenMissing(undefined, `Cannot read the pid file ${path}`));
  return stats?.mtimeMs;
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(whenMissing('', `Cannot read the pid file ${path}`));
}

async function startedMs({ startTicks }: ProcessStat): Promise<number> {
  const bootSeconds = /^btime (\d+)$/m.exec(await readFile('/proc/stat', 'latin1'))?.[1];
  return (Number(bootSeconds) + startTicks / ticksPerSecond) * 1000;
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim();
}
