import { z } from 'zod';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { Generation } from '../../../ports/component.ts';
import { swapDetails } from '../../restore/swap-details.ts';
import { exchangeSchema } from './exchange.ts';
import { formerGeneration } from './former-swap.ts';
import { discardPreviousTree, undoTree } from '../swap.ts';
import { UnsetList } from '../unset.ts';

const detailsSchema = z.object({ version: z.literal(2), trees: z.array(exchangeSchema) });

/** The exchange a journal describes, to go back or to tidy up. @throws CorruptionError when it is another's record */
export function treesGeneration(record: SwapRecord): Generation {
  const { version } = record.details;
  // Version 1.0 of tars wrote none.
  if (version === undefined) return formerGeneration(record);
  const { trees } = swapDetails(record, 'files', detailsSchema);
  return {
    async undo({ log }) {
      const unset = new UnsetList();
      for (const tree of [...trees].reverse()) {
        await undoTree(
          tree,
          (message) => log.warn(message),
          (what) => unset.add(what, tree.live),
        );
      }
      for (const warning of unset.warnings) log.warn(`${record.component}: ${warning}`);
    },
    async discardPrevious() {
      for (const tree of trees) await discardPreviousTree(tree);
    },
  };
}
