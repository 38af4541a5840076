import type { StoredBody } from '../../../ports/artifacts.ts';
import type { CompanionSuffix, JournalMode } from '../sqlite/header.ts';
import type { FileEntry, TreeEntry } from '../tree/entry.ts';

/** Where the bytes of a file are that it had at the mark. */
export type MarkedBody =
  /** In the destination, since before the mark. */
  | { readonly from: 'destination'; readonly stored: StoredBody }
  /** In a file of that name in the scratch directory. */
  | { readonly from: 'scratch'; readonly copy: string }
  /** Where they were. `isProven`: as long as the identity is the same, so are the bytes. */
  | { readonly from: 'live'; readonly isProven: boolean };

/** An entry as it was at the mark. */
export type MarkedEntry = Exclude<TreeEntry, FileEntry> | MarkedFile;
export type MarkedFile = FileEntry & { readonly body: MarkedBody; readonly database?: DatabasePart };

/** A file that belongs to a SQLite database. */
export interface DatabasePart {
  /** The database itself, in the same tree. */
  readonly of: string;
  /** Empty for that. */
  readonly suffix: '' | CompanionSuffix;
  /** How it says that it keeps its journal; for the database itself. */
  readonly journal?: JournalMode | undefined;
  /** A copy in the scratch directory, to be checked there. */
  readonly copy?: string;
}

interface TaggedNumber {
  readonly $n: string;
}
interface TaggedBytes {
  readonly $b: string;
}

/** As one line. */
export function encodeMarked(entry: MarkedEntry): string {
  return JSON.stringify(entry, function (this: Record<string, unknown>, name, given: unknown): unknown {
    // Buffers turn themselves into lists of numbers first.
    const value = this[name];
    if (typeof value === 'bigint') return { $n: value.toString() } satisfies TaggedNumber;
    if (value instanceof Uint8Array)
      return { $b: Buffer.from(value).toString('base64') } satisfies TaggedBytes;
    return given;
  });
}

export function decodeMarked(line: string): MarkedEntry {
  return JSON.parse(line, (_name, value: unknown) => {
    if (typeof value !== 'object' || value === null) return value;
    if ('$n' in value) return BigInt((value as TaggedNumber).$n);
    if ('$b' in value) return new Uint8Array(Buffer.from((value as TaggedBytes).$b, 'base64'));
    return value;
  }) as MarkedEntry;
}
