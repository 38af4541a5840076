import { toTarsError } from '../../model/errors.ts';
import { isPartial, type ForgetDecision } from '../../model/forgetting.ts';
import {
  describeLoss,
  describeShrinkage,
  findShrinkage,
  holdingsOf,
  joinHoldings,
  type CountAmounts,
  type Holdings,
  type Shrinkage,
} from '../../model/shrinkage.ts';
import { shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';

/** One reason why nothing may go, as it is said. */
interface HoldReason {
  readonly said: string;
  /** The component, where it is gone and the configuration names it no more. */
  readonly letGo?: string | undefined;
}

/** What decides whether snapshots may go. */
interface HoldQuestion {
  /** Newest first. */
  readonly decisions: readonly ForgetDecision[];
  readonly isConfigured: (component: string) => boolean;
  readonly count: CountAmounts;
  /** Components whose snapshots may all go. */
  readonly letGo: readonly string[];
}

/**
 * Why nothing may go: the newest complete snapshot holds half or less of what the one before does, or one that would go
 * holds twice what all newer ones do that stay. The first says at once that a store was emptied, the second never lets
 * its last good snapshot go. What cannot be compared holds as well: nobody knows then.
 */
export async function reasonsToHold(
  shelf: SnapshotShelf,
  question: HoldQuestion,
  ctx: OperationContext,
): Promise<readonly HoldReason[]> {
  const complete = question.decisions.filter(({ snapshot }) => !isPartial(snapshot));
  const comparison = new Comparison(shelf, question, ctx);
  try {
    return await comparison.of(complete);
  } catch (error) {
    const known = toTarsError(error, 'A manifest could not be read');
    if (known.code === 'interrupted' || known.code === 'repository-locked') throw known;
    return [{ said: `it is unknown whether a store has shrunk: ${known.message}` }];
  }
}

class Comparison {
  readonly #shelf: SnapshotShelf;
  readonly #question: HoldQuestion;
  readonly #ctx: OperationContext;

  constructor(shelf: SnapshotShelf, question: HoldQuestion, ctx: OperationContext) {
    this.#shelf = shelf;
    this.#question = question;
    this.#ctx = ctx;
  }

  /** @param complete newest first */
  async of(complete: readonly ForgetDecision[]): Promise<readonly HoldReason[]> {
    // One by a clock that was ahead is not how it stands now.
    const now = this.#ctx.clock.now();
    const present = complete.filter(({ snapshot }) => snapshot.time <= now);
    const [newest, previous] = present.length > 1 ? present : complete;
    if (newest === undefined || previous === undefined) return [];
    const [has, had] = await Array.fromAsync(this.#holdingsIn([newest, previous]));
    if (has === undefined || had === undefined) return [];
    const shrunk = findShrinkage(had.holdings, has.holdings);
    if (shrunk.length > 0) return shrunk.map((loss) => this.#reason(loss, describeShrinkage));
    const going = complete.filter(({ keep }) => !keep);
    const staying = complete.filter((decision) => decision.keep && decision !== newest);
    return await this.#losses(going, staying, has.holdings);
  }

  /** @param held what the newest holds: what there is, even if it is to go */
  async #losses(
    going: readonly ForgetDecision[],
    staying: ForgetDecision[],
    held: Holdings,
  ): Promise<readonly HoldReason[]> {
    for await (const { snapshot, holdings } of this.#holdingsIn(going)) {
      let lost = findShrinkage(holdings, held);
      // Mostly the newest has it all, and these need not be read.
      while (lost.length > 0 && staying[0] !== undefined && staying[0].snapshot.time >= snapshot.time) {
        for await (const { holdings: kept } of this.#holdingsIn(staying.splice(0, 1)))
          held = joinHoldings(held, kept);
        lost = findShrinkage(holdings, held);
      }
      const id = shortId(snapshot.id);
      if (lost.length > 0)
        return lost.map((loss) => this.#reason(loss, (each, known) => describeLoss(each, id, known)));
    }
    return [];
  }

  #reason(loss: Shrinkage, describe: (loss: Shrinkage, isConfigured: boolean) => string): HoldReason {
    const isConfigured = this.#question.isConfigured(loss.component);
    const isGone = loss.unit === 'components' && !isConfigured;
    return { said: describe(loss, isConfigured), letGo: isGone ? loss.component : undefined };
  }

  /** One manifest is in memory at a time. */
  async *#holdingsIn(
    decisions: readonly ForgetDecision[],
  ): AsyncGenerator<{ readonly snapshot: SnapshotSummary; readonly holdings: Holdings }> {
    const coming = decisions.values();
    const ids = decisions.map(({ snapshot }) => snapshot.id);
    for await (const manifest of this.#shelf.readManifests(ids, this.#ctx)) {
      const decision = coming.next().value;
      if (decision === undefined) return;
      const { count, letGo } = this.#question;
      const holdings = [...holdingsOf(manifest, count)].filter(([name]) => !letGo.includes(name));
      yield { snapshot: decision.snapshot, holdings: new Map(holdings) };
    }
  }
}
