import { TarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { SnapshotOwner, SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource, SnapshotStore } from '../../ports/snapshot-store.ts';

/** Which snapshot is meant. */
interface SnapshotSelector {
  /** An id, a unique prefix of one, or `latest`. */
  readonly reference: string;
  /** The stack and the host of tars.yaml. */
  readonly owner: SnapshotOwner;
  /** The host whose snapshot is wanted, where the operator names one. */
  readonly fromHost: string | undefined;
}

/** How a snapshot is opened: under a lock, or for a moment's look. */
type Way = 'open' | 'peek';

/**
 * Opens the snapshot that is meant. `latest` is of this host. Where this host has none of the stack and exactly one
 * other host has some, it is of that one: the caller says so, and asks before it writes anything.
 * @throws TarsError `snapshot-not-found`, naming the hosts that have snapshots of the stack, and what to type
 */
export async function openWanted(
  store: SnapshotStore,
  { reference, owner, fromHost }: SnapshotSelector,
  ctx: OperationContext,
  way: Way = 'open',
): Promise<SnapshotSource> {
  if (reference !== 'latest') return requireHost(await store[way](reference, undefined, ctx), fromHost);
  try {
    return await store[way]('latest', { ...owner, hostname: fromHost ?? owner.hostname }, ctx);
  } catch (error) {
    if (!(error instanceof TarsError) || error.code !== 'snapshot-not-found') throw error;
    const others = byHost((await store.list(ctx)).filter(({ stack }) => stack === owner.stack));
    const [only, ...more] = others.keys();
    if (only === undefined) throw error;
    if (fromHost === undefined && more.length === 0)
      return await store[way]('latest', { ...owner, hostname: only }, ctx);
    throw noneOfHost(fromHost ?? owner.hostname, owner, others);
  }
}

/** The snapshots of a stack by the hosts that have some, in the order of their first ones. */
export function byHost(
  snapshots: readonly SnapshotSummary[],
): ReadonlyMap<string, readonly SnapshotSummary[]> {
  return Map.groupBy(snapshots, ({ hostname }) => hostname);
}

/** `alpha (3 snapshots, the newest of 2026-11-24 02:30 UTC)`, one after the other. */
export function describeHosts(hosts: ReadonlyMap<string, readonly SnapshotSummary[]>): string {
  return [...hosts]
    .map(([host, snapshots]) => {
      const newest = snapshots.at(-1)?.time.toISOString().slice(0, 16).replace('T', ' ') ?? '';
      return `${host} (${counted(snapshots.length, 'snapshot')}, the newest of ${newest} UTC)`;
    })
    .join(', ');
}

async function requireHost(source: SnapshotSource, fromHost: string | undefined): Promise<SnapshotSource> {
  const { id, hostname } = source.summary;
  if (fromHost === undefined || hostname === fromHost) return source;
  await source[Symbol.asyncDispose]();
  throw new TarsError(
    'snapshot-not-found',
    `Snapshot ${id} was taken on host ${hostname}, not on ${fromHost}`,
    {
      hint: 'Correct or omit --from-host.',
    },
  );
}

function noneOfHost(
  host: string,
  { stack, hostname }: SnapshotOwner,
  others: ReadonlyMap<string, readonly SnapshotSummary[]>,
): TarsError {
  const [example = ''] = others.keys();
  const renamed =
    host === hostname
      ? ` If this machine was renamed or replaces one of them, set host: in tars.yaml to that name.`
      : '';
  return new TarsError(
    'snapshot-not-found',
    `There is no snapshot of stack "${stack}" on host "${host}"; there are snapshots of ${describeHosts(others)}`,
    {
      hint: `To use one of them, add --from-host: tars restore latest --from-host ${example}.${renamed}`,
    },
  );
}
