import { z } from 'zod';
import { PreviousDataGoneError, RestoreRefusedError, TarsError } from '../../../model/errors.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { Generation } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { swapDetails } from '../../restore/swap-details.ts';
import { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import type { ChromaEndpoint } from './transport.ts';

/**
 * One collection exchanged by two renames: live becomes `previousName`, then staged becomes `name`. Renames go by id,
 * so that the state a crash left is told by which id has which name.
 */
const collectionSwapSchema = z.object({
  tenant: z.string(),
  database: z.string(),
  name: z.string(),
  stagedId: z.string(),
  stagedName: z.string(),
  /** The live collection when the restore was staged; `null` when there was none. */
  previousId: z.string().nullable(),
  previousName: z.string(),
});
export type CollectionSwap = z.infer<typeof collectionSwapSchema>;

/** A swap record's details. */
const logicalSwapSchema = z.object({
  method: z.literal('logical'),
  swaps: z.array(collectionSwapSchema),
});

/** @throws CorruptionError when the record is not that of a logical restore */
export function swapsOf(record: SwapRecord): readonly CollectionSwap[] {
  return swapDetails(record, 'chroma', logicalSwapSchema).swaps;
}

/** Which collections of a swap exist, and what they are called now. */
interface SwapState {
  readonly staged: CollectionInfo | undefined;
  readonly previous: CollectionInfo | undefined;
  /** Whatever is called `name`. */
  readonly named: CollectionInfo | undefined;
}

async function stateOf(
  client: ChromaClient,
  swap: CollectionSwap,
  ctx: OperationContext,
): Promise<SwapState> {
  const find = (name: string): Promise<CollectionInfo | undefined> => client.findCollection(swap, name, ctx);
  const candidates = [await find(swap.name), await find(swap.stagedName), await find(swap.previousName)];
  return {
    staged: candidates.find((candidate) => candidate?.id === swap.stagedId),
    previous: candidates.find((candidate) => candidate?.id === swap.previousId),
    named: candidates[0],
  };
}

const placeOf = ({ tenant, database, name }: CollectionSwap): string => `${tenant}/${database}/${name}`;

/** Carries the swaps out; renaming to the name it has is no error, so it can be run again after a crash. */
export async function swapCollections(
  client: ChromaClient,
  swaps: readonly CollectionSwap[],
  ctx: OperationContext,
): Promise<void> {
  for (const swap of swaps) await requireUnchanged(client, swap, ctx);
  for (const swap of swaps) {
    const { previous } = await stateOf(client, swap, ctx);
    if (previous?.name === swap.name)
      await client.renameCollection(swap, previous.id, swap.previousName, ctx);
    await client.renameCollection(swap, swap.stagedId, swap.name, ctx);
  }
}

async function requireUnchanged(
  client: ChromaClient,
  swap: CollectionSwap,
  ctx: OperationContext,
): Promise<void> {
  const { staged, previous, named } = await stateOf(client, swap, ctx);
  if (staged === undefined) {
    throw new TarsError('restore-failed', `The staged collection for ${placeOf(swap)} is gone`, {
      hint: 'Run the restore again.',
    });
  }
  const expected = named === undefined || named.id === swap.stagedId || named.id === swap.previousId;
  if (expected && (previous !== undefined || swap.previousId === null)) return;
  throw new RestoreRefusedError(
    `Collection ${placeOf(swap)} was deleted or created again while its restore was staged`,
    { hint: 'Pause the services that write to Chroma, then run the restore again.' },
  );
}

/** A finished or interrupted swap, to go back or to tidy up; see {@link Generation}. */
export function logicalGeneration(record: SwapRecord, endpoint: ChromaEndpoint): Generation {
  const swaps = swapsOf(record);
  const client = new ChromaClient(endpoint);
  return {
    undo: async (ctx) => {
      for (const swap of [...swaps].reverse()) await undoSwap(client, swap, ctx);
    },
    discardPrevious: async (ctx) => {
      for (const swap of swaps) await discardPrevious(client, swap, ctx);
    },
  };
}

/** @throws PreviousDataGoneError when undoing would only delete */
async function undoSwap(client: ChromaClient, swap: CollectionSwap, ctx: OperationContext): Promise<void> {
  const { staged, previous, named } = await stateOf(client, swap, ctx);
  if (swap.previousId !== null && previous === undefined) {
    throw new PreviousDataGoneError(`The previous collection ${placeOf(swap)} is gone; nothing was changed`, {
      hint: 'Restore it from a snapshot instead.',
    });
  }
  if (named !== undefined && named.id !== swap.stagedId && named.id !== swap.previousId) {
    throw new RestoreRefusedError(
      `Another collection has taken the name ${placeOf(swap)} since the restore; nothing was changed`,
      { hint: 'Rename or delete that collection, then undo again.' },
    );
  }
  if (staged?.name === swap.name) await client.renameCollection(swap, staged.id, swap.stagedName, ctx);
  if (previous?.name === swap.previousName) await client.renameCollection(swap, previous.id, swap.name, ctx);
  if (staged !== undefined) await client.deleteCollection(swap, swap.stagedName, ctx);
}

async function discardPrevious(
  client: ChromaClient,
  swap: CollectionSwap,
  ctx: OperationContext,
): Promise<void> {
  const { staged, previous } = await stateOf(client, swap, ctx);
  // Before the swap is complete the previous collection is the only live one.
  if (staged?.name !== swap.name || previous?.name !== swap.previousName) return;
  await client.deleteCollection(swap, swap.previousName, ctx);
}

/** Deletes what was staged and not swapped in. */
export async function discardStaged(
  client: ChromaClient,
  swaps: readonly Pick<CollectionSwap, 'tenant' | 'database' | 'stagedId' | 'stagedName'>[],
  ctx: OperationContext,
): Promise<void> {
  for (const swap of swaps) {
    const staged = await client.findCollection(swap, swap.stagedName, ctx);
    if (staged?.id === swap.stagedId) await client.deleteCollection(swap, swap.stagedName, ctx);
  }
}

/** Deletes what a staging that was cut off left, known by its names alone. */
export async function removeStagedCollections(
  client: ChromaClient,
  tenants: readonly string[],
  restoreId: string,
  ctx: OperationContext,
): Promise<void> {
  for (const tenant of tenants) {
    for (const database of await client.listDatabases(tenant, ctx)) {
      const place = { tenant, database };
      for (const { name } of await client.listCollections(place, ctx)) {
        if (name.endsWith(`_tars_new_${restoreId}`)) await client.deleteCollection(place, name, ctx);
      }
    }
  }
}

/** Shell lines with which a person undoes the swaps; required headers have to be added by hand. */
export function wayBackByRenames(location: string, swaps: readonly CollectionSwap[]): string[] {
  const rename = ({ tenant, database }: CollectionSwap, id: string, name: string): string => {
    const [inTenant, inDatabase] = [tenant, database].map(encodeURIComponent);
    const path = `/api/v2/tenants/${inTenant ?? ''}/databases/${inDatabase ?? ''}/collections/${id}`;
    const body = JSON.stringify({ new_name: name });
    return `curl -fsS -X PUT '${location}${path}' -H 'content-type: application/json' -d '${body}'`;
  };
  return swaps.flatMap((swap) => [
    rename(swap, swap.stagedId, swap.stagedName),
    ...(swap.previousId === null ? [] : [rename(swap, swap.previousId, swap.name)]),
  ]);
}
