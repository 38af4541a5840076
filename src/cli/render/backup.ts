import { artifactTotals } from '../../model/artifact-list.ts';
import type { Manifest } from '../../model/manifest.ts';
import { shortId } from '../../model/snapshot.ts';
import type { BackupPlan, BackupResult } from '../../operations/backup/backup.ts';
import { incompleteSentences, notCapturedLines, outcomeWord, wholeWord } from './captured.ts';
import { formatTable } from './columns.ts';
import { formatBytes, formatMs } from './units.ts';

/** A plan as JSON has it. */
export function planValue(plan: BackupPlan): unknown {
  return {
    ...plan,
    components: plan.components.map(({ error, ...rest }) =>
      error === undefined
        ? rest
        : { ...rest, error: { code: error.code, message: error.message, hint: error.hint } },
    ),
  };
}

/** What a dry run shows. */
export function renderPlan(plan: BackupPlan): string {
  const rows = plan.components.map(({ name, serverVersion, sizeBytes, summary, error }) => [
    name,
    serverVersion ?? '',
    sizeBytes === undefined ? '' : formatBytes(sizeBytes),
    error === undefined ? summary : `cannot be captured: ${error.message}`,
  ]);
  return [
    `Would back up ${plan.stack} to ${plan.destination}`,
    formatTable(['COMPONENT', 'VERSION', '>SIZE', 'WHAT'], rows),
    ...renderWriters(plan.writers),
    ...plan.components.flatMap(({ name, warnings }) =>
      warnings.map((warning) => `Warning: ${name}: ${warning}`),
    ),
    ...notCapturedLines(plan.notCaptured),
  ].join('\n');
}

function renderWriters({ pausable, idle, free, undeclared }: BackupPlan['writers']): string[] {
  if (pausable.length + idle.length + free.length + undeclared.length === 0)
    return [
      'Paused for the cut: nothing, because no service is marked as a writer; each store is captured at its own moment',
    ];
  const list = (names: readonly string[], sentence: string): string[] =>
    names.length === 0 ? [] : [`${sentence}: ${names.join(', ')}`];
  return [
    ...list(pausable, 'Paused for the cut'),
    ...list(idle, 'Not running, so they need no pause'),
    ...list(
      free,
      'Cannot be paused (give them a pid_file, or pause and resume), so each store is captured at its own moment',
    ),
    ...list(
      undeclared.map(({ name, why }) => `${name} (${why})`),
      'Seem to write and are not paused, so each store is captured at its own moment; set writer: true or writer: false under services in tars.yaml',
    ),
  ];
}

/** Also among the messages, for whoever keeps only those: a crontab line ends with `> /dev/null`. */
export const failureSentences = ({ components }: Manifest): readonly string[] => [
  ...components.flatMap(({ name, error }) =>
    error === undefined ? [] : [`${name} was not captured: ${error.message}`],
  ),
  ...incompleteSentences(components),
];

/** A result as JSON has it. */
export function resultValue({ manifest, snapshot }: BackupResult): unknown {
  const { summary, ...counts } = snapshot;
  return { snapshot: summary.id, ...counts, manifest };
}

/** What became of each component, and of the snapshot. */
export function renderResult({ manifest, snapshot }: BackupResult): string {
  const rows = manifest.components.map((component) => [
    component.name,
    outcomeWord(component),
    formatBytes(artifactTotals(component).sizeBytes),
    component.error?.message ?? `${component.method ?? ''}${blockedNote(component.writesBlockedMs)}`,
  ]);
  const elapsedMs = Date.parse(manifest.finishedAt) - Date.parse(manifest.startedAt);
  const pause =
    manifest.writerPauseMs === undefined ? '' : `, writers paused for ${formatMs(manifest.writerPauseMs)}`;
  const consistency =
    manifest.consistency === 'cut'
      ? `one cut at ${manifest.time}`
      : `per store (${manifest.consistencyReason ?? ''})`;
  return [
    formatTable(['COMPONENT', 'OUTCOME', '>SIZE', 'HOW'], rows),
    ...manifest.components.flatMap((c) =>
      c.error?.hint === undefined ? [] : [`${c.name}: ${c.error.hint}`],
    ),
    ...notCapturedLines(manifest.notCaptured),
    `Consistency: ${consistency}${pause}`,
    `Snapshot ${shortId(snapshot.summary.id)} ${wholeWord(manifest)} in ${formatMs(elapsedMs)}: ` +
      `${formatBytes(snapshot.processedBytes)} captured, ${formatBytes(snapshot.addedBytes)} added`,
  ].join('\n');
}

function blockedNote(writesBlockedMs = 0): string {
  return writesBlockedMs === 0 ? '' : `, own writes held for ${formatMs(writesBlockedMs)}`;
}
