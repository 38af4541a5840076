import { closeSync, constants, fstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { attributesOf } from '../../paths/file-bytes.ts';
import { hasSeveralNames, HardLinks } from '../tree-sink.ts';
import {
  entryOf,
  fileIdentity,
  diskBytesOf,
  type FileEntry,
  type LiveStep,
  hasVanished,
} from '../tree/entry.ts';
import { walkTree, type WalkRules } from '../tree/walk.ts';
import type { DeltaWriter } from './delta.ts';
import type { MarkedBody, MarkedFile } from './marked.ts';
import { keyOf, type NoteReader } from './note.ts';
import type { CopyLimits, ScratchCopies } from './scratch-copies.ts';

/** After this many entries, other marks get their turn. */
const entriesPerTurn = 256;
/** How often a file is copied again that changes meanwhile although nobody should write. */
const copiesMax = 2;

/** One tree at the moment of the cut. */
export interface MarkTreeOptions {
  readonly root: OpenDirectory;
  readonly rules: WalkRules;
  readonly note: NoteReader;
  readonly delta: DeltaWriter;
  readonly copies: ScratchCopies;
  /** Copies of files of which more names are to come, by the file; shared by all trees. */
  readonly linked: Map<string, MarkedBody>;
  readonly limits: CopyLimits;
  readonly isLate: () => boolean;
  /** Told of a file that is not fixed: it did not fit, or changed while it was copied. */
  readonly onUnfixed: (path: string, sizeBytes: number) => void;
  /** Told of what cannot be read of an entry that is recorded all the same. */
  readonly onMissing: (path: string, error: unknown) => void;
}

/** Compares a tree with its note and fixes what is different. @returns false when the time was over before its end */
export async function markTree(options: MarkTreeOptions): Promise<boolean> {
  const { root, rules, note, delta, limits, isLate } = options;
  let steps = 0;
  for (const step of walkTree(root, rules)) {
    if (step.kind === 'leave') continue;
    if (++steps % entriesPerTurn === 0) {
      throwIfAborted(limits.signal);
      if (isLate()) return false;
      await setImmediate();
    }
    const key = keyOf(step);
    if (!note.isSame(key)) delta.drop(note.skipTo(step.path));
    if (note.isSame(key)) {
      delta.same();
      note.next();
      continue;
    }
    if (note.isAt(step.path)) {
      delta.drop(1);
      note.next();
    }
    await putChanged(step, options);
  }
  delta.finish();
  return true;
}

async function putChanged(step: LiveStep, options: MarkTreeOptions): Promise<void> {
  const { delta, onMissing } = options;
  const entry = entryOf(step, (error) => onMissing(step.path, error));
  if (entry === undefined) return;
  if (entry.type !== 'file' || step.kind !== 'entry') {
    if (entry.type !== 'file') delta.put(entry);
    return;
  }
  const marked = await fixFile(entry, step, options);
  if (marked !== undefined) delta.put(marked);
}

/** Undefined when it is gone. */
async function fixFile(
  entry: FileEntry,
  step: Extract<LiveStep, { kind: 'entry' }>,
  { linked, copies, limits, onUnfixed }: MarkTreeOptions,
): Promise<MarkedFile | undefined> {
  const { identity, path } = entry;
  const file = HardLinks.keyOf(identity);
  const known = hasSeveralNames(identity) ? linked.get(file) : undefined;
  if (known !== undefined) return { ...entry, body: known };
  const live = { ...entry, body: { from: 'live', isProven: false } } as const;
  let descriptor: number | undefined;
  try {
    descriptor = step.parent.openFile(step.name, constants.O_RDONLY | constants.O_NONBLOCK);
    for (let attempt = 1; attempt <= copiesMax; attempt++) {
      const before = fstatSync(descriptor, { bigint: true });
      if (!before.isFile()) return undefined;
      const copy = await copies.copy(descriptor, limits);
      if (copy === undefined) break;
      const after = fstatSync(descriptor, { bigint: true });
      if (keyOf({ path, stats: before }) === keyOf({ path, stats: after })) {
        const body: MarkedBody = { from: 'scratch', copy };
        if (hasSeveralNames(identity)) linked.set(file, body);
        const attributes = { ...entry.attributes, ...attributesOf(after) };
        return { ...entry, attributes, identity: fileIdentity(after), diskBytes: diskBytesOf(after), body };
      }
      copies.remove(copy);
    }
    onUnfixed(path, entry.diskBytes);
    return live;
  } catch (error) {
    throwIfAborted(limits.signal);
    if (hasVanished(error)) return undefined;
    // What is wrong is found, and recorded, when it is read after the pause.
    return live;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
