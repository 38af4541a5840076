import type { DemoReport } from '../../demo/run.ts';
import { counted } from '../../model/plural.ts';
import { formatTable } from './columns.ts';
import { formatBytes, formatMs } from './units.ts';

/** At most 80 columns wide. */
export function renderReport(report: DemoReport): string {
  const { comparisons, passages, kept } = report;
  const failed = comparisons.filter(({ holds }) => !holds).length;
  return [
    '',
    `  ${passages} passages of Moby-Dick in PostgreSQL, Redis and Chroma,`,
    '  a model, and a configuration file with a secret or two',
    '',
    ...indented(renderSizes(report)),
    '',
    ...indented(renderRuns(report)),
    '',
    ...indented(renderComparisons(comparisons)),
    '',
    failed === 0
      ? '  Everything came back.'
      : `  ${counted(failed, 'comparison')} of ${comparisons.length} failed.`,
    ...(kept === undefined
      ? []
      : [
          '',
          '  Everything is kept, but the private servers are stopped. To look around:',
          `  tars --config ${kept}/tars.yaml show`,
          '  or snapshots, or check; verify and restore need the servers to run.',
        ]),
  ].join('\n');
}

const indented = (table: string): string[] => table.split('\n').map((line) => `  ${line}`.trimEnd());

function renderSizes({ first }: DemoReport): string {
  const rows = first.manifest.components.map(({ name, artifacts }) => [
    formatBytes(artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)),
    name,
  ]);
  return formatTable(['>Captured', ''], rows);
}

function renderRuns({ first, second, restore }: DemoReport): string {
  const elapsed = ({ manifest }: DemoReport['first']): string =>
    formatMs(Date.parse(manifest.finishedAt) - Date.parse(manifest.startedAt));
  const pauses = [first, second].map(({ manifest: { writerPauseMs } }) =>
    writerPauseMs === undefined ? 'not at all' : formatMs(writerPauseMs),
  );
  const [processed, added, more] = [
    first.snapshot.processedBytes,
    first.snapshot.addedBytes,
    second.snapshot.addedBytes,
  ].map(formatBytes);
  const reused = 100 * (1 - second.snapshot.addedBytes / Math.max(1, second.snapshot.processedBytes));
  return formatTable(
    ['', '>', ''],
    [
      ['First backup', elapsed(first), `${processed ?? ''} became ${added ?? ''}, encrypted`],
      ['Second backup', elapsed(second), `${more ?? ''} more, ${reused.toFixed(1)} % was already stored`],
      ['Application', '', `kept writing, paused for ${pauses.join(' and ')}`],
      ['Restore', formatMs(restore.durationMs), 'from the repository onto an empty machine'],
    ],
  ).trimStart();
}

function renderComparisons(comparisons: DemoReport['comparisons']): string {
  const rows = comparisons.map(({ what, holds }) => {
    const [subject = '', ...fact] = what.split(': ');
    return [holds ? 'same' : 'DIFFERS', subject, fact.join(': ')];
  });
  return formatTable(['', '', ''], rows).trimStart();
}
