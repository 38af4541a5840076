import { throwIfAborted } from '../../model/abort.ts';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import { isOwnedBy, type SnapshotOwner, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import { decodeSnapshot, type SnapshotFile } from '../format/snapshot-file.ts';
import type { OpenedRepository } from '../open.ts';

/** A snapshot file with the name it is stored under. */
export interface NamedSnapshot {
  readonly id: string;
  readonly file: SnapshotFile;
}

/** Where a stack's artifacts lie in its snapshots' trees. */
export function stackPath(stack: string): string {
  return `/tars/${stack}`;
}

/** The stack a snapshot is of; undefined for snapshots tars did not write. */
export function stackOf(paths: readonly string[]): string | undefined {
  const [path, ...others] = paths;
  return others.length > 0 || path === undefined ? undefined : /^\/tars\/([^/]+)$/.exec(path)?.[1];
}

/** @throws CorruptionError */
export async function loadSnapshot(
  repository: OpenedRepository,
  id: string,
  signal: AbortSignal,
): Promise<NamedSnapshot> {
  return { id, file: decodeSnapshot(await repository.loadUnpacked('snapshots', id, signal), id) };
}

/** All snapshots, oldest first. A damaged one is told to the operator and left out: the others are still good. */
export async function listSnapshots(
  repository: OpenedRepository,
  ctx: OperationContext,
): Promise<NamedSnapshot[]> {
  const found: NamedSnapshot[] = [];
  for await (const { name } of repository.storage.list('snapshots', ctx.signal)) {
    throwIfAborted(ctx.signal);
    try {
      found.push(await loadSnapshot(repository, name, ctx.signal));
    } catch (error) {
      // It may have been forgotten since it was listed.
      if (error instanceof TarsError && error.code === 'storage-not-found') continue;
      if (!(error instanceof CorruptionError)) throw error;
      ctx.log.warn(`Skipped a damaged snapshot: ${error.message}`);
    }
  }
  return found.sort((a, b) => compare(a.file.timeNs, b.file.timeNs) || compare(a.id, b.id));
}

/**
 * The snapshot `reference` means.
 * @param reference an id, a unique prefix of one, or `latest`
 * @param owner restricts `latest`
 * @throws TarsError `snapshot-not-found`, also for a prefix of several ids
 */
export async function findSnapshot(
  repository: OpenedRepository,
  reference: string,
  owner: SnapshotOwner | undefined,
  ctx: OperationContext,
): Promise<NamedSnapshot> {
  if (reference !== 'latest') {
    return loadSnapshot(repository, await resolvePrefix(repository, reference, ctx.signal), ctx.signal);
  }
  const snapshots = await listSnapshots(repository, ctx);
  const latest = snapshots.findLast(
    (snapshot) => owner === undefined || isOwnedBy(summarize(snapshot), owner),
  );
  if (latest) return latest;
  const whose = owner === undefined ? '' : ` of stack "${owner.stack}" on host "${owner.hostname}"`;
  throw new TarsError(
    'snapshot-not-found',
    `There is no snapshot${whose} in ${repository.storage.location}`,
    {
      hint: 'Run `tars backup` to take one. `tars snapshots` lists the snapshots of other stacks and hosts.',
    },
  );
}

async function resolvePrefix(
  repository: OpenedRepository,
  prefix: string,
  signal: AbortSignal,
): Promise<string> {
  const hint = '`tars snapshots` lists the ids.';
  const matches: string[] = [];
  if (/^[0-9a-f]{1,64}$/.test(prefix)) {
    for await (const { name } of repository.storage.list('snapshots', signal)) {
      if (name.startsWith(prefix)) matches.push(name);
    }
  }
  const [match, second] = matches;
  if (match === undefined) {
    throw new TarsError('snapshot-not-found', `There is no snapshot "${prefix}"`, { hint });
  }
  if (second !== undefined) {
    const message = `"${prefix}" is the beginning of ${matches.length} snapshot ids`;
    throw new TarsError('snapshot-not-found', message, { hint: `Give more digits of the id. ${hint}` });
  }
  return match;
}

/** A snapshot as lists show it, of restic's too: those may lack what only tars writes. */
export function summarize({ id, file }: NamedSnapshot): SnapshotSummary {
  const { addedBytes } = file.summary ?? {};
  return {
    id,
    time: new Date(Number(file.timeNs / 1_000_000n)),
    utcOffsetMinutes: file.utcOffsetMinutes ?? 0,
    stack: stackOf(file.paths),
    hostname: file.hostname,
    tags: file.tags,
    paths: file.paths,
    program: file.programVersion,
    ...(addedBytes === undefined ? {} : { addedBytes }),
  };
}

function compare<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
