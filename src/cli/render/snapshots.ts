import { notWholeTag, shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import { formatTable } from './columns.ts';

const outcomeOf = (tags: readonly string[]): string => {
  const outcome = tags.includes('partial') ? 'partial' : 'complete';
  return tags.includes(notWholeTag) ? `${outcome}, not whole` : outcome;
};

/** The snapshots of a repository, in their order. */
export function renderSnapshots(snapshots: readonly SnapshotSummary[]): string {
  const rows = snapshots.map(({ id, time, stack, hostname, tags, program }) => [
    shortId(id),
    time.toISOString().replace('T', ' ').slice(0, 19),
    stack ?? '-',
    hostname,
    outcomeOf(tags),
    program ?? '',
  ]);
  return rows.length === 0
    ? 'No snapshots yet. Take one with: tars backup'
    : formatTable(['ID', 'TIME (UTC)', 'STACK', 'HOST', 'OUTCOME', 'WRITTEN BY'], rows);
}
