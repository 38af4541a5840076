import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { uptime } from 'node:os';
import { hasErrno } from '../model/errors.ts';

/** Where pids are counted: two processes with equal places see each other by the same pids. */
interface PidPlace {
  /** Of the kernel, from its start to its end; containers have that of their host. */
  readonly bootId: string;
  /** Inode number of the pid namespace. */
  readonly pidNamespace: string;
}

/** The place of this process; undefined where /proc does not tell. */
export function ownPidPlace(): PidPlace | undefined {
  const bootId = textOf('/proc/sys/kernel/random/boot_id');
  const pidNamespace = linkOf('/proc/self/ns/pid')?.replace(/\D/g, '');
  return bootId === '' || pidNamespace === undefined || pidNamespace === ''
    ? undefined
    : { bootId, pidNamespace };
}

/** Of this installation of an operating system (machine-id(5)); empty where there is none, as in most containers. */
export const machineId = (): string => textOf('/etc/machine-id');

/** When the kernel started, in milliseconds since 1970, as the clock of the machine reads now. */
export const bootTimeMs = (now: Date): number => now.getTime() - uptime() * 1000;

/**
 * Field 22 of /proc/<pid>/stat, which a recycled pid has another value of; empty when there is no such process. The
 * name in field 2 may hold spaces, so fields are counted after it.
 */
export const processStartOf = (pid: number): string => statFieldsOf(pid)[19] ?? '';

/**
 * Whether the process of that pid, in the place of this one, has ended. One whose parent has not asked for its end yet
 * has ended, too.
 * @param processStart what {@link processStartOf} said of it; undefined when nobody noted that
 */
export function hasEnded(pid: number, processStart: string | undefined): boolean {
  if (!exists(pid)) return true;
  // A /proc of another pid namespace would tell of some other process.
  if (linkOf('/proc/self') !== String(process.pid)) return false;
  const fields = statFieldsOf(pid);
  const [state = ''] = fields;
  // Other threads of a process whose first one has ended still work.
  if (state !== '' && 'ZX'.includes(state) && threadsOf(pid) <= 1) return true;
  return processStart !== undefined && fields[19] !== undefined && fields[19] !== processStart;
}

/** Signal 0 only asks. */
function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !hasErrno(error, 'ESRCH');
  }
}

/** From field 3, the state, on; empty when there is no such process. */
function statFieldsOf(pid: number): readonly string[] {
  const stat = textOf(`/proc/${pid}/stat`);
  return stat === '' ? [] : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function threadsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch {
    return 0;
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
