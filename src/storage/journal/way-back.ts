import type { RestoreJournalEntry } from '../../ports/journal.ts';

/** The way back for a person, one component after the other; empty unless all is swapped and the previous data kept. */
export function wayBackText(entry: RestoreJournalEntry): string {
  const { restoreId, stack, snapshot, startedAt, phase, offline, records, byHand } = entry;
  if (records.length === 0 || (phase !== 'swapped' && phase !== 'done')) return '';
  const down =
    offline.length === 0 ? [] : [`# Stop these first, for their files are exchanged: ${offline.join(', ')}.`];
  return [
    `# The way back to what ${stack} held before restore ${restoreId}`,
    `# (of snapshot ${snapshot.slice(0, 8)}, begun ${startedAt}).`,
    '# Read it before you run any of it; it holds until the previous data is removed or restored over.',
    '# Stop whatever writes to the stores. Databases are renamed back by their running server.',
    ...down,
    ...(byHand === undefined ? [] : ['', '# stop what writes', ...byHand.stop]),
    ...records.flatMap(({ component, wayBack }) => ['', `# ${component}`, ...wayBack]),
    ...(byHand === undefined ? [] : ['', '# start it again', ...byHand.start]),
    '',
  ].join('\n');
}
