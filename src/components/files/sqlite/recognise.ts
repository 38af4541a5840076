import { closeSync, constants } from 'node:fs';
import type { LiveStep } from '../tree/entry.ts';
import { journalModeOf, mayBeDatabase, partOf, type BesideDatabase, type JournalMode } from './header.ts';

/** Of which database a file is a part that lies beside it. */
export function databasePart(
  path: string,
  isKnown: (database: string) => boolean,
): BesideDatabase | undefined {
  const part = partOf(path);
  return part === undefined || !isKnown(part.of) ? undefined : part;
}

/** The journal mode of a file with the header of a database. What cannot be read is none. */
export function journalModeAt({
  parent,
  name,
  stats,
}: Extract<LiveStep, { kind: 'entry' }>): JournalMode | undefined {
  if (!mayBeDatabase(stats)) return undefined;
  let descriptor: number | undefined;
  try {
    descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
    return journalModeOf(descriptor);
  } catch {
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
