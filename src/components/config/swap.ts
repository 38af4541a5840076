import { rmdir } from 'node:fs/promises';
import { z } from 'zod';
import { hasErrno } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Generation } from '../../ports/component.ts';
import { discardPreviousPaths, pathSwapSchema, undoPaths } from '../paths/path-swap.ts';
import { swapDetails } from '../restore/swap-details.ts';

const recordSchema = z.object({
  swaps: z.array(pathSwapSchema),
  /** Directories created for the files, outermost first. */
  created: z.array(z.string()),
});

/** Removes those of `directories` that hold nothing, innermost first. */
export async function removeEmptyDirectories(directories: readonly string[]): Promise<void> {
  for (const directory of [...directories].reverse()) {
    await rmdir(directory).catch((error: unknown) => {
      if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTEMPTY')) throw error;
    });
  }
}

/** The swap of one restore, for going back or tidying up. @throws CorruptionError when the record is not ours */
export function configGeneration(record: SwapRecord): Generation {
  const { swaps, created } = swapDetails(record, 'config', recordSchema);
  return {
    async undo({ log }) {
      await undoPaths(swaps, (message) => log.warn(message));
      await removeEmptyDirectories(created);
    },
    discardPrevious: () => discardPreviousPaths(swaps),
  };
}
