import { setImmediate } from 'node:timers/promises';
import type { OpenDirectory } from '../../disk/open-directory.ts';
import { throwIfAborted } from '../../model/abort.ts';
import type { ArtifactSink } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { writeLiveFile } from './live-file.ts';
import type { TreeSink } from './tree-sink.ts';
import { entryOf, type LiveStep } from './tree/entry.ts';
import { walkTree, type WalkRules } from './tree/walk.ts';

/** After this many entries, other work gets its turn. */
const entriesPerTurn = 64;

/** A tree where it lies. */
interface LiveTree extends Pick<WalkRules, 'leaveOut'> {
  readonly directory: OpenDirectory;
  /** For messages. */
  readonly about: string;
}

/** Records a tree as things are now, each file at a moment of its own. */
export async function captureLiveTree(
  live: LiveTree,
  into: TreeSink,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<void> {
  const { directory, leaveOut } = live;
  const onFailure = (path: string, error: unknown): void => into.missing(path, error);
  try {
    let steps = 0;
    for (const step of walkTree(directory, { leaveOut, onFailure })) {
      throwIfAborted(ctx.signal);
      if (step.kind === 'leave') await into.leave(step.path);
      else await record(step, live, into, sink, ctx);
      if (++steps % entriesPerTurn === 0) await setImmediate();
    }
  } finally {
    await into.settle();
  }
}

async function record(
  step: LiveStep,
  { about }: LiveTree,
  into: TreeSink,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<void> {
  const entry = entryOf(step, (error) => into.missing(step.path, error));
  if (entry === undefined) return;
  if (entry.type !== 'file') return into.record(entry);
  if (step.kind !== 'entry') return;
  const { parent, name } = step;
  await into.file(entry, async () => {
    const reused = await sink.reuse(into.artifact(entry.path), entry.identity, entry.attributes);
    if (reused === undefined) {
      const live = { entry, parent, name, about: `${about}/${entry.path}` };
      return (await writeLiveFile(live, into, sink, ctx)) !== undefined;
    }
    into.count(entry.diskBytes);
    return true;
  });
}
