import type { Command } from 'commander';
import { runLogOf, stackClaimsOf } from '../../compose.ts';
import { shortId } from '../../model/snapshot.ts';
import { statusOf, type RunSummary, type StackStatus } from '../../operations/status.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatAge, formatBytes, formatMoment, formatMs, formatNext } from '../render/units.ts';
import { scheduleOf } from '../scheduling.ts';
import { runVerb, type Session, type Surroundings } from '../session.ts';

/** More failures than this are counted, not listed. */
const failuresShownMax = 5;

export function addStatus(program: Command, surroundings: Surroundings): void {
  program
    .command('status')
    .description('how it stands: last and next runs, what failed and why')
    .addHelpText(
      'after',
      `
Reads what runs on this machine recorded, not the repository.
Exit code 1 when the last backup or the last check failed, or the backup is
older than the schedule allows; 2 when it is partial. What holds old snapshots
back from being forgotten is said, with its cure, and changes no exit code.

Examples:
  tars status
  tars status --json`,
    )
    .action((_flags: object, command: Command) => runVerb(command, surroundings, (session) => run(session)));
}

const codes = { fine: exitCodes.success, partial: exitCodes.partial, failing: exitCodes.error } as const;

async function run({ ctx, audience, settings: load }: Session): Promise<number> {
  const settings = await load();
  const now = ctx.clock.now();
  const status = statusOf(scheduleOf(settings), runLogOf(settings), now);
  const daemon = await stackClaimsOf(settings).holder('daemon');
  audience.result({ ...status, daemon }, render(status, daemon?.pid, now));
  return codes[status.verdict];
}

function render(status: StackStatus, daemonPid: number | undefined, now: Date): string {
  const { stack, verdict, reasons, warnings, running, last, failures, next } = status;
  const rows: [string, string][] = [
    ...running.map((run): [string, string] => [
      'Running',
      `${run.verb} (pid ${run.pid}) for ${formatAge(now.getTime() - run.startedAt.getTime())}`,
    ]),
    ...(['backup', 'forget', 'prune', 'check'] as const).map((verb): [string, string] => [
      `Last ${verb}`,
      last[verb] === undefined ? 'none recorded' : describeLast(last[verb], now),
    ]),
    ...Object.entries(next).map(([task, time]): [string, string] => [`Next ${task}`, formatNext(time, now)]),
    ...(Object.keys(next).length === 0
      ? [['Next', 'nothing is scheduled in tars.yaml'] as [string, string]]
      : []),
    ...(daemonPid === undefined ? [] : [['Daemon', `pid ${daemonPid}`] as [string, string]]),
    ...failures.slice(0, failuresShownMax).map((run): [string, string] => ['Failed', describeFailure(run)]),
    ...(failures.length > failuresShownMax
      ? [['', `and ${failures.length - failuresShownMax} more before`] as [string, string]]
      : []),
  ];
  return [
    `${stack}: ${verdict}`,
    ...reasons.map((reason) => `  ${reason}`),
    ...warnings.flatMap(({ found, cure }) => [`  ${found}`, `    ${cure}`]),
    ...rows.map(([label, text]) => `  ${label.padEnd(14)}${text}`.trimEnd()),
  ].join('\n');
}

function describeLast({ startedAt, finishedAt, end, options }: RunSummary, now: Date): string {
  const parts = [
    `${formatMoment(startedAt)}, ${formatAge(now.getTime() - startedAt.getTime())} ago`,
    ...(end?.outcome === 'partial' ? ['partial'] : []),
    ...(end?.snapshot === undefined ? [] : [`snapshot ${shortId(end.snapshot)}`]),
    ...(end?.capturedBytes === undefined ? [] : [`${formatBytes(end.capturedBytes)} captured`]),
    ...(end?.addedBytes === undefined ? [] : [`${formatBytes(end.addedBytes)} added`]),
    ...(options.includes('readData') ? ['every byte read'] : []),
    ...(finishedAt === undefined ? [] : [`took ${formatMs(finishedAt.getTime() - startedAt.getTime())}`]),
  ];
  return parts.join(', ');
}

function describeFailure({ verb, startedAt, state, end }: RunSummary): string {
  const how = state === 'killed' ? 'killed' : (end?.outcome ?? '');
  const why = end?.error === undefined ? '' : `: ${end.error.message.split('\n')[0] ?? ''}`;
  return `${formatMoment(startedAt)} ${verb} ${how}${why}`;
}
