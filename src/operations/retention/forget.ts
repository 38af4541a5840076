import { localOffsetAt } from '../../model/calendar.ts';
import { ConfigurationError, TarsError } from '../../model/errors.ts';
import { decideForget, isPartial, newestComplete, type ForgetDecision } from '../../model/forgetting.ts';
import { isEmptyRules, type RetentionRules } from '../../model/retention.ts';
import type { CountAmounts } from '../../model/shrinkage.ts';
import { isOwnedBy, shortId, type SnapshotOwner, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import { reasonsToHold } from './hold-reasons.ts';

/** What the operator allows beyond what is safe. */
interface ForgetAllowances {
  /** The newest complete snapshot of a stack on a host may go. */
  readonly allowLast: boolean;
  /** Also while a store holds half or less of what it held in the snapshot before, or in one that goes. */
  readonly allowShrunk: boolean;
}

/** What is known here of the one stack that tars.yaml describes, on its host. */
export interface DescribedStack extends SnapshotOwner {
  /** The components that tars.yaml names. */
  readonly components: readonly string[];
  /** Those it named once, and whose last snapshots the operator has let go. */
  readonly letGo: readonly string[];
}

/** The rules and whose snapshots they are for. */
export interface ForgetRequest extends ForgetAllowances {
  readonly rules: RetentionRules;
  /** Undefined for every stack there is. */
  readonly stack: string | undefined;
  /** Undefined for every host there is. */
  readonly hostname: string | undefined;
  readonly described?: DescribedStack | undefined;
  /** What a component of a snapshot holds, to be compared. */
  readonly count: CountAmounts;
}

/** What the rules make of the snapshots of one stack on one host. */
export interface StackForgetPlan extends SnapshotOwner {
  /** Newest first. */
  readonly decisions: readonly ForgetDecision[];
  /** Why none of these go although the rules say so; empty when they are followed. */
  readonly heldBack: readonly string[];
  /** Components that tars.yaml names no more and that hold nothing back, as the operator has said so. */
  readonly letGo: readonly string[];
  /** Snapshots of a day that has not come yet: the clock was wrong, and they stay until then. */
  readonly ahead: readonly SnapshotSummary[];
}

/** What a forget would do; `--dry-run` prints it, {@link executeForget} carries it out. */
export interface ForgetPlan {
  readonly location: string;
  readonly stacks: readonly StackForgetPlan[];
  /** Other hosts that have snapshots of the wanted stack and were not asked about. */
  readonly otherHosts: readonly string[];
}

/**
 * Decides by the rules, stack by stack and host by host: no machine counts another's snapshots. Snapshots that are of
 * no stack, as other programs write them, are not looked at.
 * @throws ConfigurationError when the rules keep nothing
 */
export async function planForget(
  shelf: SnapshotShelf,
  { rules, stack, hostname, described, count, ...allowances }: ForgetRequest,
  ctx: OperationContext,
): Promise<ForgetPlan> {
  if (isEmptyRules(rules)) {
    throw new ConfigurationError('No rule says which snapshots to keep, so none are removed', {
      hint: 'Add retention: to tars.yaml, or a flag such as --keep-daily 7.',
    });
  }
  const all = groupByOwner(await shelf.list(ctx));
  const ofStack = all.filter(({ owner }) => stack === undefined || owner.stack === stack);
  const ofHost = ofStack.filter(({ owner }) => hostname === undefined || owner.hostname === hostname);
  const nothing = { owner: { stack: stack ?? '', hostname: hostname ?? '' }, snapshots: [] };
  // One that is asked for by name is answered for, also when there is nothing of it.
  const isNamed = stack !== undefined && hostname !== undefined;
  const stacks: StackForgetPlan[] = [];
  for (const { owner, snapshots } of ofHost.length === 0 && isNamed ? [nothing] : ofHost) {
    const known = described !== undefined && isSameOwner(owner, described) ? described : undefined;
    stacks.push(await planStack(shelf, { owner, snapshots, rules, allowances, known, count }, ctx));
  }
  const otherHosts = ofStack.filter((group) => !ofHost.includes(group)).map(({ owner }) => owner.hostname);
  return { location: shelf.location, stacks, otherHosts: [...new Set(otherHosts)] };
}

const isSameOwner = (a: SnapshotOwner, b: SnapshotOwner): boolean =>
  a.stack === b.stack && a.hostname === b.hostname;

interface OwnedSnapshots {
  readonly owner: SnapshotOwner;
  /** Oldest first. */
  readonly snapshots: SnapshotSummary[];
}

/** By stack, then by host, both in the order of their names. */
function groupByOwner(snapshots: readonly SnapshotSummary[]): readonly OwnedSnapshots[] {
  const groups: OwnedSnapshots[] = [];
  for (const snapshot of snapshots) {
    const { stack, hostname } = snapshot;
    if (stack === undefined) continue;
    const group = groups.find(({ owner }) => isOwnedBy(snapshot, owner));
    if (group === undefined) groups.push({ owner: { stack, hostname }, snapshots: [snapshot] });
    else group.snapshots.push(snapshot);
  }
  const key = ({ owner }: OwnedSnapshots): string => `${owner.stack}\0${owner.hostname}`;
  return groups.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

interface StackQuestion {
  readonly owner: SnapshotOwner;
  readonly snapshots: readonly SnapshotSummary[];
  readonly rules: RetentionRules;
  readonly allowances: ForgetAllowances;
  readonly known: DescribedStack | undefined;
  readonly count: CountAmounts;
}

async function planStack(
  shelf: SnapshotShelf,
  { owner, snapshots, rules, allowances, known, count }: StackQuestion,
  ctx: OperationContext,
): Promise<StackForgetPlan> {
  const now = ctx.clock.now();
  const surroundings = { now, offsetAt: localOffsetAt, allowLast: allowances.allowLast };
  const decisions = decideForget(snapshots, rules, surroundings);
  const isConfigured = (component: string): boolean => known?.components.includes(component) ?? true;
  const letGo = (known?.letGo ?? []).filter((component) => !isConfigured(component));
  const plan = { ...owner, decisions, heldBack: [], letGo, ahead: aheadOf(decisions, now) };
  if (decisions.every(({ keep }) => keep)) return plan;
  const reasons = await reasonsToHold(shelf, { decisions, isConfigured, letGo, count }, ctx);
  if (allowances.allowShrunk) {
    // Said once, or it would come back whenever the last snapshot of a week, month or year is to go.
    return { ...plan, letGo: [...letGo, ...reasons.flatMap(({ letGo: gone }) => gone ?? [])] };
  }
  if (reasons.length === 0) return plan;
  const held = decisions.map((decision) =>
    decision.keep ? decision : { ...decision, keep: true, reasons: [...decision.reasons, 'held back'] },
  );
  return { ...plan, decisions: held, heldBack: reasons.map(({ said }) => said) };
}

/** Clocks of two machines differ by less. */
const clockToleranceMs = 5 * 60_000;

/** Snapshots that stay and are of a time that has not come yet, newest first. */
function aheadOf(decisions: readonly ForgetDecision[], now: Date): readonly SnapshotSummary[] {
  const limitMs = now.getTime() + clockToleranceMs;
  return decisions.flatMap(({ keep, snapshot }) =>
    keep && snapshot.time.getTime() > limitMs ? [snapshot] : [],
  );
}

/**
 * Plans to remove exactly the snapshots that are named.
 * @param references ids, or unique prefixes of some
 * @throws TarsError `snapshot-not-found`; `forget-refused` for the newest complete snapshot of a stack on a host,
 *   unless `allowLast`, and for what tars did not write
 */
export async function planForgetNamed(
  shelf: SnapshotShelf,
  references: readonly string[],
  { allowLast }: Pick<ForgetAllowances, 'allowLast'>,
  ctx: OperationContext,
): Promise<ForgetPlan> {
  const snapshots = await shelf.list(ctx);
  const named = new Set(references.map((reference) => resolve(reference, snapshots)));
  const stacks = groupByOwner(snapshots)
    .filter((group) => group.snapshots.some((snapshot) => named.has(snapshot)))
    .map(({ owner, snapshots: group }): StackForgetPlan => {
      const newest = newestComplete(group);
      if (!allowLast && newest !== undefined && named.has(newest)) throw refuseNewest(newest);
      const decisions = group.toReversed().map((snapshot) => byName(snapshot, named));
      return { ...owner, decisions, heldBack: [], letGo: [], ahead: aheadOf(decisions, ctx.clock.now()) };
    });
  return { location: shelf.location, stacks, otherHosts: [] };
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

function refuseNewest({ id, stack, hostname }: SnapshotSummary): TarsError {
  return new TarsError(
    'forget-refused',
    `Snapshot ${shortId(id)} is the newest complete one of ${stack ?? 'its stack'} on ${hostname}; nothing was removed`,
    { hint: 'Take another backup first, or add --allow-last to remove it anyway.' },
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
