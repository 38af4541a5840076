import { chmod, chown, lchown, mkdir, stat, symlink, utimes } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { createDurably } from '../../../disk/durable-file.ts';
import { whenMissing } from '../../../disk/is-there.ts';
import { throwIfAborted } from '../../../model/abort.ts';
import { openPrivateDirectory } from '../../../disk/private-directory.ts';
import { removeTreeAt } from '../../../disk/remove-tree.ts';
import { syncDirectory } from '../../../disk/sync.ts';
import { CorruptionError, toTarsError } from '../../../model/errors.ts';
import type { Finding } from '../../../model/finding.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { ArtifactEntry, ArtifactSource } from '../../../ports/artifacts.ts';
import type { Staged } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { directorySwaps, stageBeside, wayBackLines } from '../../paths/path-swap.ts';
import { inspectDirectory } from '../direct/inspect.ts';
import { compareFacts, problemsAgainst, type ChromaFacts } from '../facts.ts';
import type { PhysicalPlace, PhysicalRestoreDetails } from './plan.ts';
import { swapPersistDirectory, type PhysicalSwap } from './swap.ts';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Owner and mode of the live directory; its successor gets the same. */
interface Previous extends Owner {
  readonly mode: number;
}

/** Writes the snapshot's directory beside the live one; on failure nothing staged remains. */
export async function stagePhysicalRestore(
  place: PhysicalPlace,
  { facts, prefix, restoreId }: PhysicalRestoreDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const previous = await previousOf(place.path);
  const ownUid = process.getuid?.();
  if (previous !== undefined && ownUid !== 0 && ownUid !== previous.uid) {
    ctx.log.warn(
      `${place.path} belongs to user ${previous.uid}; the restored directory will belong to user ${ownUid ?? -1}`,
    );
  }
  const stage = await stageBeside(place.path, restoreId, place.keepDirectory);
  const discard = (): Promise<void> => removeTreeAt(stage.stagedDir);
  try {
    {
      using own = await openPrivateDirectory(stage.stagedDir);
      await writeTree(source, prefix, own.path, previous, ctx);
    }
    const swap: PhysicalSwap = {
      method: 'physical',
      live: place.path,
      stage: { ...stage },
      swaps: await directorySwaps(place.path, stage),
    };
    const record: SwapRecord = {
      component: place.name,
      kind: place.kind,
      wayBack: wayBackLines(swap.swaps),
      details: { ...swap },
    };
    return {
      record,
      replaces: [place.path],
      verify: (verifyCtx) => verifyStaged(place.name, stage.stagedDir, facts, verifyCtx),
      swap: () => swapPersistDirectory(swap),
      discard,
    };
  } catch (error) {
    await discard();
    throwIfAborted(ctx.signal, error);
    throw toTarsError(error, `Cannot stage ${place.path}`);
  }
}

async function previousOf(path: string): Promise<Previous | undefined> {
  const found = await stat(path).catch(whenMissing(undefined, `Cannot read ${path}`));
  return found === undefined ? undefined : { uid: found.uid, gid: found.gid, mode: found.mode & 0o7777 };
}

async function writeTree(
  source: ArtifactSource,
  prefix: string,
  stagedDir: string,
  previous: Previous | undefined,
  ctx: OperationContext,
): Promise<void> {
  const folders: { path: string; entry: ArtifactEntry }[] = [];
  for await (const entry of source.entries(prefix, ctx.signal)) {
    throwIfAborted(ctx.signal);
    const path = join(stagedDir, safeRelative(prefix, entry.path));
    const owner = previous ?? entry.attributes;
    if (entry.type === 'directory') {
      if (path !== stagedDir) await mkdir(path, { recursive: true, mode: 0o700 });
      folders.push({ path, entry });
    } else if (entry.type === 'symlink') {
      await symlink(entry.linkTarget ?? '', path);
      await giveTo(() => lchown(path, owner.uid, owner.gid));
    } else if (entry.type === 'file') {
      await writeFileDurably(source, entry, path, owner, ctx);
    }
  }
  // Children first, so that a read-only directory can still be filled and the staged root is opened up last.
  for (const { path, entry } of folders.reverse()) {
    const owner = previous ?? entry.attributes;
    await syncDirectory(path);
    await giveTo(() => chown(path, owner.uid, owner.gid));
    await chmod(path, path === stagedDir && previous !== undefined ? previous.mode : entry.attributes.mode);
  }
}

/** @throws CorruptionError for a path that would leave the staged directory */
function safeRelative(prefix: string, path: string): string {
  const inside = relative(prefix, path);
  if (inside !== '..' && !inside.startsWith('../') && !inside.startsWith('/')) return inside;
  throw new CorruptionError(`The snapshot lists ${path} under ${prefix}`);
}

async function writeFileDurably(
  source: ArtifactSource,
  entry: ArtifactEntry,
  path: string,
  owner: Owner,
  ctx: OperationContext,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await createDurably(path, source.open(entry.path, ctx.signal), { syncParent: false });
  await giveTo(() => chown(path, owner.uid, owner.gid));
  await chmod(path, entry.attributes.mode);
  const seconds = Number(entry.attributes.mtimeNs) / 1e9;
  await utimes(path, seconds, seconds);
}

/** Only root can give files away; anybody else's restored files are their own. */
async function giveTo(give: () => Promise<void>): Promise<void> {
  if (process.getuid?.() === 0) await give();
}

async function verifyStaged(
  name: string,
  stagedDir: string,
  facts: ChromaFacts,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const inspection = await inspectDirectory(stagedDir, name, ctx.signal);
  return [
    ...problemsAgainst(name, facts, inspection.problems),
    ...compareFacts(name, facts, inspection, 'exact'),
  ];
}
