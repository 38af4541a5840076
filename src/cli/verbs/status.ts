import type { Command } from 'commander';
import { shortId } from '../../model/snapshot.ts';
import type { RunSummary, StackStatus } from '../../operations/schedule/status.ts';
import { withCure } from '../render/diagnoses.ts';
import { examineLeftovers } from '../examine.ts';
import { exitCodes } from '../exit-codes.ts';
import { readStatus } from '../read-status.ts';
import {
  breakBetweenWords,
  formatAge,
  formatBytes,
  formatMoment,
  formatMs,
  formatNext,
} from '../render/units.ts';
import { runVerb, type Session, type CliContext } from '../session.ts';

/** More failures than this are counted, not listed. */
const failuresShownMax = 5;
/** What is shown may be read in a mail or on a console. */
const columnsMax = 80;
const labelColumns = 14;

export function addStatus(program: Command, cli: CliContext): void {
  program
    .command('status')
    .description('show the last and next runs, what failed and why')
    .addHelpText(
      'after',
      `
Reads what runs on this machine recorded for this repository, not what is in it.
Exit code 1 when the last backup or the last check failed, or the backup is
older than the schedule allows; 2 when it is partial. Where nothing starts what
is scheduled (no timer, no cron daemon, no tars daemon), the state is warning,
with exit code 0 until a backup is missed. A stack that has no backup
yet is waiting, with exit code 0, until a time of the schedule is missed; 1 when
none is scheduled. What holds old snapshots back from being forgotten is said,
with its hint, and changes no exit code; so is what restores left that nobody
has discarded, as far as the stores say so within 5 seconds.

Examples:
  tars status
  tars status --json`,
    )
    .action((_flags: object, command: Command) => runVerb(command, cli, (session) => run(session)));
}

const codes = {
  fine: exitCodes.success,
  waiting: exitCodes.success,
  warning: exitCodes.success,
  partial: exitCodes.partial,
  failing: exitCodes.error,
} as const;

async function run({ ctx, audience, env, settings: load }: Session): Promise<number> {
  const settings = await load();
  const { now, status, isStarted, daemon } = await readStatus(settings, env, ctx);
  const found = await examineLeftovers(settings, env, ctx);
  const leftovers = found.map((each) => ({ found: each.found, hint: each.hint ?? '' }));
  const columns = Math.min(audience.columns ?? columnsMax, columnsMax);
  const scene = { daemonPid: daemon?.pid, isStarted, now, columns, leftovers };
  const result = { ...status, warnings: status.warnings.map(withCure), leftovers: leftovers.map(withCure) };
  audience.result({ ...result, started: isStarted, daemon }, render(status, scene));
  return codes[status.verdict];
}

interface Scene {
  readonly daemonPid: number | undefined;
  /** Something starts what is scheduled. */
  readonly isStarted: boolean;
  readonly now: Date;
  readonly columns: number;
  /** What restores left. */
  readonly leftovers: readonly Finding[];
}

interface Finding {
  readonly found: string;
  readonly hint: string;
}

function render(status: StackStatus, { daemonPid, isStarted, now, columns, leftovers }: Scene): string {
  const { stack, verdict, reasons, warnings, running, last, failures, next, firstDue } = status;
  const rows: [string, string][] = [
    ...running.map((run): [string, string] => [
      'Running',
      `${run.verb} (pid ${run.pid}) for ${formatAge(now.getTime() - run.startedAt.getTime())}`,
    ]),
    ...(['backup', 'forget', 'prune', 'check'] as const).map((verb): [string, string] => [
      `Last ${verb}`,
      last[verb] === undefined ? 'none recorded' : describeLast(last[verb], now),
    ]),
    ...Object.entries(next).map(([task, time]): [string, string] => [
      `Next ${task}`,
      // Some schedulers take the first one as soon as they look, others at its time.
      `${formatNext(task === 'backup' ? (firstDue ?? time) : time, now)}${isStarted ? '' : ', if something started it'}`,
    ]),
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
    ...reasons.map((reason) => folded(reason, 2, columns)),
    ...warnings.flatMap(({ found, hint }) => [folded(found, 2, columns), folded(hint, 4, columns)]),
    // A line that is typed stays one.
    ...leftovers.flatMap(({ found, hint }) => [folded(found, 2, columns), `    ${hint}`]),
    ...rows.map(([label, text]) =>
      breakBetweenWords(`  ${label.padEnd(labelColumns)}${text}`.trimEnd(), labelColumns + 2, columns),
    ),
  ].join('\n');
}

/** Each line of `text` indented, and what does not fit below it by two more. */
function folded(text: string, indent: number, columns: number): string {
  return text
    .split('\n')
    .map((line) => breakBetweenWords(`${' '.repeat(indent)}${line}`, indent + 2, columns))
    .join('\n');
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
