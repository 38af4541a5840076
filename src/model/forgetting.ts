import { applyRetention, type RetentionRules, type RetentionSurroundings } from './retention.ts';
import type { SnapshotSummary } from './snapshot.ts';

/** What becomes of one snapshot, and why. */
export interface ForgetDecision {
  readonly snapshot: SnapshotSummary;
  readonly keep: boolean;
  /** For both outcomes. */
  readonly reasons: readonly string[];
}

/** What the rules are applied with. */
interface ForgetOptions extends RetentionSurroundings {
  /** Even the newest complete snapshot may go. */
  readonly allowLast: boolean;
}

/** True when a component of it could not be captured. */
export const isPartial = ({ tags }: Pick<SnapshotSummary, 'tags'>): boolean => tags.includes('partial');

const newerFirst = (a: SnapshotSummary, b: SnapshotSummary): number => b.time.getTime() - a.time.getTime();

/** The snapshot that a restore takes by default. */
export function newestComplete(snapshots: readonly SnapshotSummary[]): SnapshotSummary | undefined {
  return snapshots.filter((snapshot) => !isPartial(snapshot)).sort(newerFirst)[0];
}

/**
 * Decides about all snapshots of one stack on one host, newest first: the rules over the complete ones, then what protects them.
 * The newest complete one stays, and the newest up to now, which one by a clock that was ahead must not replace. Partial
 * ones are not counted, so that a week of failures does not push the good snapshots out; they go once a newer complete
 * one stays, unless they have a tag that is kept.
 */
export function decideForget(
  snapshots: readonly SnapshotSummary[],
  rules: RetentionRules,
  options: ForgetOptions,
): readonly ForgetDecision[] {
  const complete = applyRetention(
    snapshots.filter((snapshot) => !isPartial(snapshot)),
    rules,
    options,
  ).map(({ snapshot, keep, reasons }): ForgetDecision => {
    return keep ? { snapshot, keep, reasons } : { snapshot, keep, reasons: ['kept by no rule'] };
  });
  const decided = options.allowLast ? complete : protectNewest(complete, options.now);
  const newestKept = decided.find(({ keep, snapshot }) => keep && snapshot.time <= options.now)?.snapshot;
  const tagged = applyRetention(snapshots.filter(isPartial), { tags: rules.tags }, options);
  const partial = tagged.map(({ snapshot, keep, reasons }): ForgetDecision => {
    if (keep) return { snapshot, keep, reasons };
    const superseded = newestKept !== undefined && newestKept.time.getTime() > snapshot.time.getTime();
    return superseded
      ? { snapshot, keep: false, reasons: ['partial, and a newer one is complete'] }
      : { snapshot, keep: true, reasons: ['partial, and no newer one is complete'] };
  });
  return [...decided, ...partial].sort((a, b) => newerFirst(a.snapshot, b.snapshot));
}

/** @param decisions of complete snapshots, newest first */
function protectNewest(decisions: readonly ForgetDecision[], now: Date): readonly ForgetDecision[] {
  const [newest] = decisions;
  const newestByNow = decisions.find(({ snapshot }) => snapshot.time <= now);
  return decisions.map((decision) =>
    decision.keep || (decision !== newest && decision !== newestByNow)
      ? decision
      : { ...decision, keep: true, reasons: ['newest complete snapshot'] },
  );
}
