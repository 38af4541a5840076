import type { Command } from 'commander';
import { runDemo, type DemoReport } from '../../demo/run.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatBytes, formatMs } from '../render/units.ts';
import { runVerb, type Session, type Surroundings } from '../session.ts';

export function addDemo(program: Command, surroundings: Surroundings): void {
  program
    .command('demo')
    .description('back up, destroy and restore a private stack of real servers, and compare everything')
    .option('--keep', 'leave the private stack and its repository for a look around')
    .action((flags: { keep?: boolean }, command: Command) =>
      runVerb(command, surroundings, (session) => run(session, flags.keep === true)),
    );
}

async function run({ ctx, audience }: Session, keep: boolean): Promise<number> {
  const report = await runDemo({ keep }, ctx);
  audience.result(report, renderReport(report));
  return report.comparisons.every(({ holds }) => holds) ? exitCodes.success : exitCodes.error;
}

function renderReport({ first, second, restore, comparisons, passages, kept }: DemoReport): string {
  const elapsed = ({ manifest }: DemoReport['first']): string =>
    formatMs(Date.parse(manifest.finishedAt) - Date.parse(manifest.startedAt));
  const pauses = [first, second].map(({ manifest }) =>
    manifest.writerPauseMs === undefined ? 'none' : formatMs(manifest.writerPauseMs),
  );
  const sizes = first.manifest.components
    .map(
      ({ name, artifacts }) => `${name} ${formatBytes(artifacts.reduce((sum, a) => sum + a.sizeBytes, 0))}`,
    )
    .join(', ');
  const saved = 100 * (1 - second.snapshot.addedBytes / Math.max(1, second.snapshot.processedBytes));
  const failed = comparisons.filter(({ holds }) => !holds).length;
  return [
    '',
    `  ${passages} passages of Moby-Dick, in PostgreSQL, Redis and Chroma, with a model and a secret or two`,
    '',
    `  Captured     ${sizes}`,
    `  First run    ${elapsed(first)}: ${formatBytes(first.snapshot.processedBytes)} -> ${formatBytes(first.snapshot.addedBytes)} stored`,
    `  Second run   ${elapsed(second)}: ${formatBytes(second.snapshot.addedBytes)} more (${saved.toFixed(1)} % was already there)`,
    `  Writer pause ${pauses.join(' and ')}; consistency: ${first.manifest.consistency} and ${second.manifest.consistency}`,
    `  Restore      ${formatMs(restore.durationMs)}, from nothing but an empty machine and the repository`,
    '',
    ...comparisons.map(({ what, holds }) => `  ${holds ? 'same  ' : 'DIFFERS'} ${what}`),
    '',
    failed === 0 ? '  Everything came back.' : `  ${failed} comparisons failed.`,
    ...(kept === undefined ? [] : ['', `  Kept in ${kept}: try tars --config ${kept}/tars.yaml show`]),
  ].join('\n');
}
