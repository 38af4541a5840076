import { localOffsetAt } from '../model/calendar.ts';
import { ConfigurationError, TarsError, toTarsError } from '../model/errors.ts';
import { decideForget, isPartial, newestComplete, type ForgetDecision } from '../model/forgetting.ts';
import { isEmptyRules, type RetentionRules } from '../model/retention.ts';
import {
  describeLoss,
  describeShrinkage,
  findShrinkage,
  holdingsOf,
  joinHoldings,
  type Holdings,
} from '../model/shrinkage.ts';
import { shortId, type SnapshotSummary } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotShelf } from '../ports/snapshot-shelf.ts';

/** What the operator allows beyond what is safe. */
export interface ForgetAllowances {
  /** The newest complete snapshot of a stack may go. */
  readonly allowLast: boolean;
  /** Also while a store holds half or less of what it held in the snapshot before, or in one that goes. */
  readonly allowShrunk: boolean;
}

export interface ForgetRequest extends ForgetAllowances {
  readonly rules: RetentionRules;
  /** Undefined for every stack there is. */
  readonly stack: string | undefined;
}

export interface StackForgetPlan {
  readonly stack: string;
  /** Newest first. */
  readonly decisions: readonly ForgetDecision[];
  /** Why nothing of this stack goes although the rules say so; empty when they are followed. */
  readonly heldBack: readonly string[];
}

/** What a forget would do; `--dry-run` prints it, {@link executeForget} carries it out. */
export interface ForgetPlan {
  readonly location: string;
  readonly stacks: readonly StackForgetPlan[];
}

/**
 * Decides by the rules, stack by stack. Snapshots that are of no stack, as other programs write them, are not looked
 * at.
 * @throws ConfigurationError when the rules keep nothing
 */
export async function planForget(
  shelf: SnapshotShelf,
  { rules, stack, ...allowances }: ForgetRequest,
  ctx: OperationContext,
): Promise<ForgetPlan> {
  if (isEmptyRules(rules)) {
    throw new ConfigurationError('No rule says which snapshots to keep, so none are removed', {
      hint: 'Give retention: in tars.yaml, or a flag such as --keep-daily 7.',
    });
  }
  const groups = groupByStack(await shelf.list(ctx));
  const wanted = stack === undefined ? [...groups.keys()].sort() : [stack];
  const stacks: StackForgetPlan[] = [];
  for (const name of wanted) {
    stacks.push(await planStack(shelf, { name, snapshots: groups.get(name) ?? [], rules, allowances }, ctx));
  }
  return { location: shelf.location, stacks };
}

function groupByStack(snapshots: readonly SnapshotSummary[]): ReadonlyMap<string, SnapshotSummary[]> {
  const groups = new Map<string, SnapshotSummary[]>();
  for (const snapshot of snapshots) {
    if (snapshot.stack === undefined) continue;
    groups.set(snapshot.stack, [...(groups.get(snapshot.stack) ?? []), snapshot]);
  }
  return groups;
}

interface StackQuestion {
  readonly name: string;
  readonly snapshots: readonly SnapshotSummary[];
  readonly rules: RetentionRules;
  readonly allowances: ForgetAllowances;
}

async function planStack(
  shelf: SnapshotShelf,
  { name, snapshots, rules, allowances }: StackQuestion,
  ctx: OperationContext,
): Promise<StackForgetPlan> {
  const surroundings = { now: ctx.clock.now(), offsetAt: localOffsetAt };
  const decisions = decideForget(snapshots, rules, { ...surroundings, allowLast: allowances.allowLast });
  const nothingGoes = decisions.every(({ keep }) => keep);
  const heldBack = nothingGoes || allowances.allowShrunk ? [] : await reasonsToHold(shelf, decisions, ctx);
  if (heldBack.length === 0) return { stack: name, decisions, heldBack };
  const held = decisions.map((decision) =>
    decision.keep ? decision : { ...decision, keep: true, reasons: [...decision.reasons, 'held back'] },
  );
  return { stack: name, decisions: held, heldBack };
}

/**
 * Why nothing may go: the newest complete snapshot holds half or less of what the one before does, or one that would go
 * holds twice what all newer ones do that stay. The first says at once that a store was emptied, the second never lets
 * its last good snapshot go. What cannot be compared holds as well: nobody knows then.
 * @param decisions newest first
 */
async function reasonsToHold(
  shelf: SnapshotShelf,
  decisions: readonly ForgetDecision[],
  ctx: OperationContext,
): Promise<readonly string[]> {
  const complete = decisions.filter(({ snapshot }) => !isPartial(snapshot));
  const [newest, previous] = complete;
  if (newest === undefined || previous === undefined) return [];
  try {
    const [now, before] = await Array.fromAsync(holdingsIn(shelf, [newest, previous], ctx));
    if (now === undefined || before === undefined) return [];
    const shrunk = findShrinkage(before.holdings, now.holdings).map(describeShrinkage);
    return shrunk.length > 0 ? shrunk : await findLosses(shelf, complete, now.holdings, ctx);
  } catch (error) {
    const known = toTarsError(error, 'A manifest could not be read');
    if (known.code === 'interrupted' || known.code === 'repository-locked') throw known;
    return [`whether a store has shrunk is not known: ${known.message}`];
  }
}

/** @param now what the newest holds: what there is, even if it is to go */
async function findLosses(
  shelf: SnapshotShelf,
  complete: readonly ForgetDecision[],
  now: Holdings,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const going = complete.filter(({ keep }) => !keep);
  const staying = complete.slice(1).filter(({ keep }) => keep);
  let held = now;
  for await (const { snapshot, holdings } of holdingsIn(shelf, going, ctx)) {
    let lost = findShrinkage(holdings, held);
    // Mostly the newest has it all, and these need not be read.
    while (lost.length > 0 && staying[0] !== undefined && staying[0].snapshot.time >= snapshot.time) {
      const more = holdingsIn(shelf, staying.splice(0, 1), ctx);
      for await (const { holdings: kept } of more) held = joinHoldings(held, kept);
      lost = findShrinkage(holdings, held);
    }
    if (lost.length > 0) return lost.map((loss) => describeLoss(loss, shortId(snapshot.id)));
  }
  return [];
}

/** One manifest is in memory at a time. */
async function* holdingsIn(
  shelf: SnapshotShelf,
  decisions: readonly ForgetDecision[],
  ctx: OperationContext,
): AsyncGenerator<{ readonly snapshot: SnapshotSummary; readonly holdings: Holdings }> {
  const coming = decisions.values();
  const ids = decisions.map(({ snapshot }) => snapshot.id);
  for await (const manifest of shelf.readManifests(ids, ctx)) {
    const decision = coming.next().value;
    if (decision !== undefined) yield { snapshot: decision.snapshot, holdings: holdingsOf(manifest) };
  }
}

/**
 * Plans to remove exactly the snapshots that are named.
 * @param references ids, or unique prefixes of some
 * @throws TarsError `snapshot-not-found`; `forget-refused` for the newest complete snapshot of a stack, unless
 *   `allowLast`, and for what tars did not write
 */
export async function planForgetNamed(
  shelf: SnapshotShelf,
  references: readonly string[],
  { allowLast }: Pick<ForgetAllowances, 'allowLast'>,
  ctx: OperationContext,
): Promise<ForgetPlan> {
  const snapshots = await shelf.list(ctx);
  const named = new Set(references.map((reference) => resolve(reference, snapshots)));
  const groups = groupByStack(snapshots);
  const stacks = [...groups]
    .filter(([, group]) => group.some((snapshot) => named.has(snapshot)))
    .map(([stack, group]): StackForgetPlan => {
      const newest = newestComplete(group);
      if (!allowLast && newest !== undefined && named.has(newest)) throw refuseNewest(newest);
      return {
        stack,
        decisions: group.toReversed().map((snapshot) => byName(snapshot, named)),
        heldBack: [],
      };
    });
  return { location: shelf.location, stacks };
}

const byName = (snapshot: SnapshotSummary, named: ReadonlySet<SnapshotSummary>): ForgetDecision => {
  const keep = !named.has(snapshot);
  return { snapshot, keep, reasons: [keep ? 'not named' : 'named'] };
};

function resolve(reference: string, snapshots: readonly SnapshotSummary[]): SnapshotSummary {
  const [match, second] = snapshots.filter(({ id }) => reference !== '' && id.startsWith(reference));
  if (match === undefined || second !== undefined) {
    const what = match === undefined ? 'There is no snapshot' : 'There is more than one snapshot';
    throw new TarsError('snapshot-not-found', `${what} "${reference}"`, {
      hint: '`tars snapshots` lists the ids.',
    });
  }
  if (match.stack === undefined) {
    throw new TarsError('forget-refused', `Snapshot ${shortId(match.id)} was not written by tars`, {
      hint: `Remove it with the program that did: restic forget ${shortId(match.id)}`,
    });
  }
  return match;
}

function refuseNewest({ id, stack }: SnapshotSummary): TarsError {
  return new TarsError(
    'forget-refused',
    `Snapshot ${shortId(id)} is the newest complete one of ${stack ?? 'its stack'}; nothing was removed`,
    { hint: 'Take another backup first, or add --allow-last if it is to go all the same.' },
  );
}

/** What goes, oldest first, so that a forget that is cut off leaves the newest. */
export function removedBy({ stacks }: ForgetPlan): readonly SnapshotSummary[] {
  return stacks
    .flatMap(({ decisions }) => decisions)
    .filter(({ keep }) => !keep)
    .map(({ snapshot }) => snapshot)
    .sort((a, b) => a.time.getTime() - b.time.getTime());
}

/** The newest complete snapshots that go, which the plan's reader must be told. */
export function lastOnesRemovedBy({ stacks }: ForgetPlan): readonly SnapshotSummary[] {
  return stacks.flatMap(({ decisions }) => {
    const newest = decisions.find(({ snapshot }) => !isPartial(snapshot));
    return newest === undefined || newest.keep ? [] : [newest.snapshot];
  });
}

/**
 * Removes what `plan` says, if all that it keeps is still there.
 * @throws RepositoryLockedError while anybody else uses the repository
 * @throws TarsError `forget-refused` when a snapshot that was to stay is gone; nothing is removed then
 */
export async function executeForget(
  shelf: SnapshotShelf,
  plan: ForgetPlan,
  ctx: OperationContext,
): Promise<void> {
  const remove = removedBy(plan).map(({ id }) => id);
  if (remove.length === 0) return;
  const kept = plan.stacks.flatMap(({ decisions }) => decisions.filter(({ keep }) => keep));
  await shelf.removeSnapshots({ remove, relyOn: kept.map(({ snapshot }) => snapshot.id) }, ctx);
}
