import type { RestoreJournalEntry } from '../../ports/journal.ts';

/** The way back for a person, one component after the other; empty unless all is swapped and the previous data kept. */
export function wayBackText(entry: RestoreJournalEntry): string {
  const { restoreId, stack, snapshot, startedAt, phase, offline, records, byHand } = entry;
  if (records.length === 0 || (phase !== 'swapped' && phase !== 'done')) return '';
  const down =
    offline.length === 0
      ? []
      : [`# First stop these services, because their files are replaced: ${offline.join(', ')}.`];
  return [
    `# How to undo restore ${restoreId} of ${stack}`,
    `# (from snapshot ${snapshot.slice(0, 8)}, started ${startedAt}).`,
    '# Read all of it before you run a line. It works until the previous data is removed or replaced.',
    '# Stop everything that writes to the stores. PostgreSQL must run, because it renames its databases itself.',
    ...down,
    ...(byHand === undefined ? [] : ['', '# stop the services that write', ...byHand.stop]),
    ...records.flatMap(({ component, wayBack }) => ['', `# ${component}`, ...wayBack]),
    ...(byHand === undefined ? [] : ['', '# start them again', ...byHand.start]),
    '',
  ].join('\n');
}
