import { toOnCalendar } from '../../model/cron-expression.ts';
import { scheduledTasks, taskArguments, type ScheduledTask } from '../../model/schedule.ts';
import type { ScheduledStack } from '../../ports/scheduler.ts';

/** The first line of every unit, by which it is known as ours. */
export const unitMarker = '# Written by tars schedule install; tars schedule remove takes it away.';

const descriptions: Readonly<Record<ScheduledTask, string>> = {
  backup: 'Backup',
  forget: 'Forgetting of old snapshots',
  check: 'Check of the repository',
};

/** `tars-home-backup.timer` */
const unitName = (stack: string, task: ScheduledTask, type: 'service' | 'timer'): string =>
  `tars-${stack}-${task}.${type}`;

/** Names of all units a stack may have. */
export const unitNames = (stack: string): readonly string[] =>
  scheduledTasks.flatMap((task) => [unitName(stack, task, 'service'), unitName(stack, task, 'timer')]);

/** The stack whose unit a file is by its name; undefined for another one's. */
export const stackOfUnit = (file: string): string | undefined =>
  /^tars-(.+)-(?:backup|forget|check)\.(?:service|timer)$/.exec(file)?.[1];

/** Whether the text of a service runs the `tars.yaml` at the end of `command`. */
export function runsSettings(text: string, command: readonly string[]): boolean {
  return text.startsWith(unitMarker) && text.includes(` ${wordsForUnit(command.slice(-2))} `);
}

/**
 * A service and a timer for each cron, by file name; systemd.unit(5), systemd.exec(5), systemd.timer(5).
 * @throws RangeError led by the task, for a cron that systemd has no form for
 */
export function systemdUnits(stack: ScheduledStack, user: boolean): ReadonlyMap<string, string> {
  const units = new Map<string, string>();
  for (const task of scheduledTasks) {
    if (stack.times[task] === undefined) continue;
    units.set(unitName(stack.stack, task, 'service'), service(stack, task, user));
    units.set(unitName(stack.stack, task, 'timer'), timer(stack, task));
  }
  return units;
}

function timer({ stack, times, delayMinutesMax }: ScheduledStack, task: ScheduledTask): string {
  const cron = times[task];
  let onCalendar = '';
  try {
    if (cron !== undefined) onCalendar = toOnCalendar(cron);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RangeError(`${task}: ${error.message}`, { cause: error });
  }
  return `${unitMarker}
[Unit]
Description=${descriptions[task]}, ${stack}: ${cron?.expression ?? ''}

[Timer]
OnCalendar=${onCalendar}
Persistent=true
RandomizedDelaySec=${delayMinutesMax}min

[Install]
WantedBy=timers.target
`;
}

function service(stack: ScheduledStack, task: ScheduledTask, user: boolean): string {
  const words = wordsForUnit([...stack.command, ...taskArguments[task]]);
  // A task that begins while an earlier one of these still runs waits for it. A backup goes with a check.
  const earlier = scheduledTasks
    .slice(0, scheduledTasks.indexOf(task))
    .map((other) => ` ${unitName(stack.stack, other, 'service')}`);
  return `${unitMarker}
[Unit]
Description=${descriptions[task]}, ${stack.stack}
Documentation=man:tars(1)
${user ? '' : 'Wants=network-online.target\n'}After=${user ? 'default.target' : 'network-online.target docker.service'}${earlier.join('')}

[Service]
Type=oneshot
ExecStart=${words}
Nice=10
CPUWeight=20
IOSchedulingClass=idle
IOWeight=20
# What resumes paused writers must outlive a tars that is stopped or killed.
KillMode=process
TimeoutStopSec=5min
OOMPolicy=continue
UMask=0077
${user ? '' : hardening(stack)}`;
}

/** Below these a service with `ProtectSystem=full` cannot write. */
const protectedDirectories = ['/usr', '/boot', '/efi', '/etc'];
const below = (path: string, directory: string): boolean => path.startsWith(`${directory}/`);

/**
 * What a run never needs. Left as they are: file systems elsewhere, since volumes and stores lie anywhere and a restore
 * that was cut off is put right first; memory that is written and executed, which is how V8 works; other processes,
 * which are recognised, paused and resumed.
 */
function hardening({ writablePaths, namedPaths }: ScheduledStack): string {
  const writable = writablePaths.filter((path) =>
    protectedDirectories.some((directory) => below(path, directory)),
  );
  const usesTmp = namedPaths.some((path) => below(path, '/tmp') || below(path, '/var/tmp'));
  const lines = [
    'NoNewPrivileges=yes',
    'ProtectSystem=full',
    ...writable.map((path) => `ReadWritePaths=${quoteForUnit(`-${path}`)}`),
    `PrivateTmp=${usesTmp ? 'no' : 'yes'}`,
    ...['KernelTunables', 'KernelModules', 'KernelLogs', 'ControlGroups', 'Clock', 'Hostname'].map(
      (what) => `Protect${what}=yes`,
    ),
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'LockPersonality=yes',
    'SystemCallArchitectures=native',
    'CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_NET_ADMIN CAP_NET_RAW CAP_BPF',
  ];
  return `${lines.join('\n')}\n`;
}

/** A command for `ExecStart=`, where alone a dollar begins a variable. */
const wordsForUnit = (words: readonly string[]): string =>
  words.map((word) => quoteForUnit(word.replaceAll('$', '$$$$'))).join(' ');

/** A word for systemd: quoted like C, with `%` doubled. */
function quoteForUnit(word: string): string {
  const doubled = word.replaceAll('%', '%%');
  if (/^[\w@+=:,./%$-]+$/.test(doubled)) return doubled;
  const escaped = doubled.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `"${escaped}"`;
}
