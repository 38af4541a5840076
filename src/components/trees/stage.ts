import { createHash } from 'node:crypto';
import { lchown, lutimes, mkdir, open, realpath, rm, stat, symlink, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../../disk/sync.ts';
import { CorruptionError, hasErrno, InterruptedError, toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactAttributes, ArtifactEntry, ArtifactSource, Bytes } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { fileBytes } from '../files/file-bytes.ts';
import { directorySwaps, stageBeside, wayBackLines } from '../files/path-swap.ts';
import { isKeptOut, type Tree } from './capture.ts';
import { treeFolder, type CapturedTree } from './facts.ts';
import { keptEntries, type TreesPlace, type TreesPlanDetails } from './plan.ts';
import { setOwner, swapTree, type TreeSwap } from './swap.ts';

interface StagedTree {
  readonly swap: TreeSwap;
  /** Of every staged file. */
  readonly hashes: ReadonlyMap<string, string>;
}

/** Writes the snapshot's trees beside the live ones; on failure nothing staged remains. */
export async function stageTreesRestore(
  place: TreesPlace,
  plan: RestorePlan<TreesPlanDetails>,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const { trees, ...details } = plan.details;
  const staged: StagedTree[] = [];
  const stagedDirs: string[] = [];
  const discard = async (): Promise<void> => {
    for (const path of stagedDirs) await rm(path, { recursive: true, force: true });
  };
  try {
    if (process.getuid?.() !== 0)
      ctx.log.warn(`${place.name}: only root can give files to their owners; they will belong to this user`);
    for (const tree of trees) {
      const own = place.trees.find(({ path }) => path === tree.path);
      if (own === undefined) continue;
      staged.push(await stageTree(place, own, tree, details, source, stagedDirs, ctx));
    }
  } catch (error) {
    await discard();
    if (ctx.signal.aborted) throw new InterruptedError('Interrupted', { cause: error });
    throw toTarsError(error, `Cannot stage the files of ${place.name}`);
  }
  const swaps = staged.map(({ swap }) => swap);
  return {
    record: {
      ...{ component: place.name, kind: place.kind },
      wayBack: swaps.flatMap((tree) => wayBackLines(tree.swaps)),
      details: { trees: swaps },
    },
    verify: (verifyCtx) => verifyStaged(place.name, staged, verifyCtx),
    async swap() {
      for (const tree of swaps) await swapTree(tree);
    },
    discard,
  };
}

async function stageTree(
  { name, keepDirectory }: TreesPlace,
  own: Tree,
  tree: CapturedTree,
  { restoreId, folder, hashes }: Omit<TreesPlanDetails, 'trees'>,
  source: ArtifactSource,
  stagedDirs: string[],
  ctx: OperationContext,
): Promise<StagedTree> {
  const prefix = treeFolder(folder, tree.path);
  const path = own.live;
  const keep = await keptEntries(name, path, own.keepOut ?? []);
  const stage = await stageBeside(path, restoreId, keepDirectory || keep.length > 0);
  stagedDirs.push(stage.stagedDir);
  const live = await realpath(path).catch(() => path);
  const before = stage.mode === 'entries' ? await ownerOf(live) : null;
  const written = await writeTree(source, prefix, stage.stagedDir, own, hashes, ctx);
  const { mode, uid, gid, mtimeNs } = written.root;
  const after = { mode, uid, gid, mtimeSeconds: Number(mtimeNs) / 1e9 };
  // The staged directory becomes the live one, or only hands its entries over.
  if (stage.mode === 'rename') await setAttributes(stage.stagedDir, written.root);
  const swaps = await directorySwaps(path, stage, keep);
  return { swap: { live, keep: [...keep], stage: { ...stage }, swaps, before, after }, hashes: written.hashes };
}

async function ownerOf(path: string): Promise<TreeSwap['before']> {
  const { mode, uid, gid } = await stat(path);
  return { mode: mode & 0o7777, uid, gid };
}

async function writeTree(
  source: ArtifactSource,
  prefix: string,
  stagedDir: string,
  own: Tree,
  hashes: ReadonlyMap<string, string>,
  ctx: OperationContext,
): Promise<{ readonly root: ArtifactAttributes; readonly hashes: ReadonlyMap<string, string> }> {
  const directories = new Map<string, ArtifactAttributes>();
  const files = new Map<string, string>();
  let root: ArtifactAttributes | undefined;
  for await (const entry of source.entries(prefix, ctx.signal)) {
    const way = entry.path.slice(prefix.length + 1);
    if (way === '') {
      root = entry.attributes;
      continue;
    }
    if (isKeptOut(own, way)) continue;
    const path = join(stagedDir, way);
    // Nothing is written through a link, or beside the tree.
    if (way.split('/').includes('..') || !(dirname(path) === stagedDir || directories.has(dirname(path))))
      throw new CorruptionError(`${entry.path} in the snapshot lies in no directory of it`);
    if (entry.type === 'directory') {
      await mkdir(path, { mode: 0o700 });
      directories.set(path, entry.attributes);
    } else {
      await writeEntry(source, entry, path, ctx);
      if (entry.type === 'file') files.set(path, hashes.get(entry.path) ?? '');
    }
  }
  if (root === undefined) throw new CorruptionError(`The snapshot does not hold ${prefix}`);
  // From the innermost out, as what is created in a directory changes its time.
  for (const [path, attributes] of [...directories].reverse()) {
    await setAttributes(path, attributes);
    await syncDirectory(path);
  }
  await syncDirectory(stagedDir);
  return { root, hashes: files };
}

async function writeEntry(
  source: ArtifactSource,
  { type, path: artifact, attributes, linkTarget, sizeBytes }: ArtifactEntry,
  path: string,
  ctx: OperationContext,
): Promise<void> {
  if (type === 'symlink') {
    await symlink(linkTarget ?? '', path);
    if (process.getuid?.() === 0) await lchown(path, attributes.uid, attributes.gid);
    await lutimes(path, seconds(attributes), seconds(attributes));
    return;
  }
  if (type !== 'file') throw new CorruptionError(`${artifact} in the snapshot is no file, directory or link`);
  const task = ctx.progress.start(artifact, sizeBytes);
  try {
    await writeFile(path, source.open(artifact, ctx.signal), task.advance.bind(task));
    await setAttributes(path, attributes);
    task.finish('ok');
  } catch (error) {
    task.finish('failed');
    throw error;
  }
}

async function writeFile(path: string, body: Bytes, onBytes: (bytes: number) => void): Promise<void> {
  const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw toTarsError(error, `Cannot write ${path}`);
  });
  try {
    for await (const chunk of body) {
      await handle.writeFile(chunk);
      onBytes(chunk.byteLength);
    }
    await handle.sync();
  } catch (error) {
    throw toTarsError(error, `Cannot write ${path}`);
  } finally {
    await handle.close();
  }
}

const seconds = ({ mtimeNs }: ArtifactAttributes): number => Number(mtimeNs) / 1e9;

async function setAttributes(path: string, attributes: ArtifactAttributes): Promise<void> {
  await setOwner(path, attributes);
  await utimes(path, seconds(attributes), seconds(attributes));
}

async function verifyStaged(
  component: string,
  trees: readonly StagedTree[],
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [path, sha256] of trees.flatMap(({ hashes }) => [...hashes])) {
    const problem = await problemOf(path, sha256, ctx.signal);
    if (problem === undefined) continue;
    const message = `The staged file ${path} ${problem}`;
    findings.push({ severity: 'error', subject: component, code: 'file-damaged', message });
  }
  return findings;
}

/** What is wrong with a file's content; undefined when it is what was captured. */
export async function problemOf(
  path: string,
  sha256: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of fileBytes(path, signal)) hash.update(chunk);
  } catch (error) {
    signal.throwIfAborted();
    const { cause, message } = toTarsError(error, `Cannot read ${path}`);
    return hasErrno(cause, 'ENOENT') ? 'is missing' : `cannot be read: ${message}`;
  }
  return hash.digest('hex') === sha256 ? undefined : 'is not what was captured';
}
