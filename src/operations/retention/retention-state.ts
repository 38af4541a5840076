import { shortId } from '../../model/snapshot.ts';
import type { RetentionOutcome, RunRecord } from '../../ports/run-log.ts';

/** What is in the way of forgetting, and what to do about it. */
export interface RetentionWarning {
  /** One sentence for a person. */
  readonly found: string;
  /** An imperative sentence. */
  readonly hint: string;
}

type Run = Pick<RunRecord, 'startedAt' | 'end'>;

/** What the last run that looked at retention made of it. */
export function lastRetention(runs: readonly Run[]): RetentionOutcome | undefined {
  return runs.findLast(({ end }) => end?.retention !== undefined)?.end?.retention;
}

/** What the operator must know of retention, from the last run that looked at it. @param runs oldest first */
export function retentionWarnings(runs: readonly Run[], now: Date): readonly RetentionWarning[] {
  const looked = runs.filter(({ end }) => end?.retention !== undefined);
  const last = looked.at(-1)?.end?.retention;
  if (last === undefined) return [];
  const { heldBack, command, ahead, failure } = last;
  return [
    ...(heldBack.length === 0
      ? []
      : [
          {
            found: `Nothing has been forgotten since ${heldSince(looked)}: ${heldBack.join('; ')}`,
            hint: `If that is expected, run ${command}.`,
          },
        ]),
    ...(failure === undefined
      ? []
      : [{ found: `Old snapshots could not be forgotten: ${failure}`, hint: 'Run tars forget.' }]),
    ...ahead.filter(({ time }) => time > now).map(aheadWarning),
  ];
}

/** When it was held back first, of the times without a break up to now. */
function heldSince(looked: readonly Run[]): string {
  const free = looked.findLastIndex(({ end }) => end?.retention?.heldBack.length === 0);
  return looked[free + 1]?.startedAt.toISOString().slice(0, 10) ?? '';
}

/** About a snapshot of a time that has not come yet. */
export function aheadWarning({ id, time }: { readonly id: string; readonly time: Date }): RetentionWarning {
  return {
    found: `Snapshot ${shortId(id)} has the date ${time.toISOString()}, which is in the future. It stays until then, and takes the place of a current snapshot`,
    hint: `If the clock was wrong, run tars forget ${shortId(id)} --allow-last.`,
  };
}
