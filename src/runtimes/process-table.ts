import { readdir, readFile } from 'node:fs/promises';
import { ConfigurationError, hasErrno } from '../model/errors.ts';

/** A process as `/proc/<pid>/stat` shows it (proc_pid_stat(5)). */
export interface ProcessStat {
  readonly pid: number;
  readonly parentPid: number;
  readonly groupId: number;
  /** One letter: `T` stopped by a signal, `Z` ended but not yet waited for. */
  readonly state: string;
  /** Clock ticks from boot to its start; with the pid it identifies a process until the next boot. */
  readonly startTicks: number;
}

/** The process with that pid; undefined when there is none, or only a zombie. */
export async function readProcess(pid: number): Promise<ProcessStat | undefined> {
  try {
    const stat = parseStat(await readFile(`/proc/${pid}/stat`, 'latin1'));
    if (stat === undefined || !'ZX'.includes(stat.state)) return stat;
    // Its other threads are about to end, and hold its files, locks and ports until the last of them has.
    return (await readdir(`/proc/${pid}/task`)).length > 1 ? stat : undefined;
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return undefined;
    if (!hasErrno(error, 'ENOENT')) throw error;
    await requireProc();
    return undefined;
  }
}

/** Every live process. */
export async function processTable(): Promise<ProcessStat[]> {
  await requireProc();
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map((pid) => readProcess(Number(pid))));
  return found.filter((stat) => stat !== undefined);
}

/** Without /proc every process would look dead, and a store would be swapped under a running server. */
async function requireProc(): Promise<void> {
  try {
    await readFile('/proc/self/stat');
  } catch (cause) {
    throw new ConfigurationError('Processes cannot be identified by pid here, because /proc is not mounted', {
      hint: 'Give start, stop and status commands for the services instead of pid_file.',
      cause,
    });
  }
}

/** `pid (comm) state ppid pgrp … starttime …`; comm may hold spaces and parentheses. */
function parseStat(line: string): ProcessStat | undefined {
  const match = /^(\d+) \(.*\) (.*)$/s.exec(line);
  const [state, parentPid, groupId] = match?.[2]?.split(' ') ?? [];
  const startTicks = match?.[2]?.split(' ')[19];
  if (state === undefined || startTicks === undefined) return undefined;
  return {
    pid: Number(match?.[1]),
    parentPid: Number(parentPid),
    groupId: Number(groupId),
    state,
    startTicks: Number(startTicks),
  };
}

/**
 * The process and all its descendants in `table`, parents first. This very process and what is below it is left
 * out: a writer that runs tars itself must not freeze it.
 */
export function processTree(rootPid: number, table: readonly ProcessStat[]): ProcessStat[] {
  const tree = table.filter(({ pid }) => pid === rootPid && pid !== process.pid);
  for (let index = 0; index < tree.length; index++) {
    const parent = tree[index];
    tree.push(...table.filter(({ pid, parentPid }) => parentPid === parent?.pid && pid !== process.pid));
  }
  return tree;
}

/**
 * Sends a signal to one process; false when there is no such process.
 * @throws RangeError for a number that kill(2) reads as a group of processes, or as the first process of the machine
 */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 1) throw new RangeError(`${pid} is not the pid of a service`);
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/** Lets a process and its descendants run on; harmless for those that run. False when there is no such process. */
export async function continueTree(rootPid: number): Promise<boolean> {
  const tree = processTree(rootPid, await processTable());
  for (const { pid } of tree) sendSignal(pid, 'SIGCONT');
  return tree.length > 0;
}
