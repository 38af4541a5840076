import { z } from 'zod';
import { removeTreeAt } from '../../disk/remove-tree.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Generation } from '../../ports/component.ts';
import { discardPreviousPaths, pathSwapSchema, undoPaths } from '../paths/path-swap.ts';
import { swapDetails } from '../restore/swap-details.ts';
import { removeEmptyDirectories, removeEmptyTree } from './place.ts';

const recordSchema = z.object({
  swaps: z.array(pathSwapSchema),
  /** Directories the swap creates, outermost first. */
  created: z.array(z.string()),
  /** `.tars-new-…` and `.tars-prev-…` folders. */
  stagedFolders: z.array(z.string()),
  previousFolders: z.array(z.string()),
});
/** What the journal keeps of a swap. */
export type SwapFolders = z.infer<typeof recordSchema>;

/** The swap of one restore, for going back or tidying up. @throws CorruptionError when the record is not ours */
export function ollamaGeneration(record: SwapRecord): Generation {
  const { swaps, created, stagedFolders, previousFolders } = swapDetails(record, 'ollama', recordSchema);
  return {
    async undo({ log }) {
      await undoPaths(swaps, (message) => log.warn(message));
      for (const folder of stagedFolders) await removeTreeAt(folder);
      for (const folder of previousFolders) await removeEmptyTree(folder);
      await removeEmptyDirectories(created);
    },
    async discardPrevious() {
      await discardPreviousPaths(swaps);
      for (const folder of [...stagedFolders, ...previousFolders]) await removeEmptyTree(folder);
    },
  };
}
