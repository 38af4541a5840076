import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { hasErrno, toTarsError } from '../../model/errors.ts';
import { processTable, readProcess, type ProcessStat } from '../process-table.ts';

/**
 * What a pid file says about its service. `doubtful`: the process started well after the file was written, so the
 * pid has probably been given to another program; a clock that was set meanwhile looks the same, which is why it
 * is not taken for stopped.
 */
export type PidFileReading =
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
  const record = /^\d+\ntars (\d+) (\S+)\n$/.exec(text);
  if (record === null) {
    if (found === undefined) return { kind: 'stopped' };
    const written = await stat(path);
    const late = (await startedMs(found)) > written.mtimeMs + toleranceMs;
    return { kind: late ? 'doubtful' : 'running', process: found };
  }
  if (record[2] !== (await bootId())) return { kind: 'stopped' };
  if (found?.startTicks === Number(record[1])) return { kind: 'running', process: found };
  if (found !== undefined) return { kind: 'stopped' };
  const pids = await groupMembers(pid);
  return pids.length > 0 ? { kind: 'orphans', pids } : { kind: 'stopped' };
}

/** Live processes of a process group. */
export async function groupMembers(groupId: number): Promise<number[]> {
  return (await processTable()).filter((each) => each.groupId === groupId).map(({ pid }) => pid);
}

/** Records a process that tars launched, with what tells it from a later one of the same pid. */
export async function writePidFile(path: string, pid: number): Promise<void> {
  const started = await readProcess(pid);
  const text = `${pid}\ntars ${started?.startTicks ?? 0} ${await bootId()}\n`;
  try {
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
  } catch (cause) {
    throw toTarsError(cause, `Cannot write the pid file ${path}`);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'latin1');
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return '';
    throw toTarsError(cause, `Cannot read the pid file ${path}`);
  }
}

async function startedMs({ startTicks }: ProcessStat): Promise<number> {
  const bootSeconds = /^btime (\d+)$/m.exec(await readFile('/proc/stat', 'latin1'))?.[1];
  return (Number(bootSeconds) + startTicks / ticksPerSecond) * 1000;
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim();
}
