import { shortId } from '../../model/snapshot.ts';
import type { RunSummary, StatusReading } from '../../operations/schedule/status.ts';
import { fold } from './columns.ts';
import { formatAge, formatBytes, formatMoment, formatMs, formatNext } from './units.ts';

/** Where what is shown may be read: in a mail, or on a console. */
const columnsMax = 80;
/** More failures than this are counted, not listed. */
const failuresShownMax = 5;
const labelColumns = 14;

/** What restores left, and the line that removes it. */
interface Leftover {
  readonly found: string;
  readonly hint: string;
}

/** How the stack stands, its last and next runs, and what failed; at most 80 columns wide. */
export function renderStatus(
  { now, status, isStarted, daemon }: StatusReading,
  leftovers: readonly Leftover[],
  terminalColumns = columnsMax,
): string {
  const columns = Math.min(terminalColumns, columnsMax);
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
      `${formatNext(task === 'backup' ? (firstDue ?? time) : time, now)}${isStarted ? '' : ', if a scheduler started it'}`,
    ]),
    ...(Object.keys(next).length === 0
      ? [['Next', 'nothing is scheduled in tars.yaml'] as [string, string]]
      : []),
    ...(daemon === undefined ? [] : [['Daemon', `pid ${daemon.pid}`] as [string, string]]),
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
    ...rows.map(([label, text]) => fold(`  ${label.padEnd(labelColumns)}`, text, columns)),
  ].join('\n');
}

/** Each line of `text` indented, and what does not fit below it by two more. */
function folded(text: string, indent: number, columns: number): string {
  return text
    .split('\n')
    .map((line) => fold(' '.repeat(indent), line, columns, indent + 2))
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
