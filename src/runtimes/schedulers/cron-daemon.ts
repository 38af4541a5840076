import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { processTable } from '../process-table.ts';

/** What the daemons that run crontabs are called, by proc_pid_comm(5). */
const daemons: ReadonlySet<string> = new Set(['cron', 'crond', 'fcron', 'bcron-start', 'cronie', 'dcron']);
/** systemd-cron makes timers of crontabs, and has no daemon. */
const generators = ['/usr/lib', '/lib'].map(
  (lib) => `${lib}/systemd/system-generators/systemd-crontab-generator`,
);

/** Whether a cron daemon runs here. Also true if that cannot be seen, so that no one is warned without reason. */
export async function cronRuns(): Promise<boolean> {
  if (generators.some((path) => existsSync(path))) return true;
  // A /proc that hides the processes of others (hidepid) hides the first one.
  if ((await nameOf(1)) === undefined) return true;
  const table = await processTable();
  const names = await Promise.all(table.map(async ({ pid }) => daemonName(pid)));
  return names.some((name) => daemons.has(name));
}

/** BusyBox's daemon has the name of all its programs. */
async function daemonName(pid: number): Promise<string> {
  const name = (await nameOf(pid)) ?? '';
  if (name !== 'busybox') return name;
  const argv = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return argv.split('\0').find((word) => daemons.has(word)) ?? name;
}

const nameOf = (pid: number): Promise<string | undefined> =>
  readFile(`/proc/${pid}/comm`, 'utf8').then(
    (text) => text.trimEnd(),
    () => undefined,
  );
