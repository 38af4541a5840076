import { join } from 'node:path';
import { ServiceUnavailableError, TarsError, toTarsError } from '../../../model/errors.ts';
import { counted } from '../../../model/plural.ts';
import type { ComponentProbe } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { leftoversAt } from '../../paths/leftovers.ts';
import { removeStagedBeside } from '../../paths/path-swap.ts';
import { singleUse } from '../../restore/single-use.ts';
import { tablesLost } from '../direct/inspect.ts';
import {
  countIndexesWithoutTables,
  countStored,
  hasHotJournal,
  openTablesForPlan,
} from '../direct/tables.ts';
import type { HttpWay } from '../http/index.ts';
import type { ChromaWay } from '../way.ts';
import { PhysicalCapture } from './capture.ts';
import { listDirectory, totalBytes } from './directory-listing.ts';
import { planPhysicalRestore, type PhysicalPlace } from './plan.ts';
import { requireLockable, requirePersistDirectory, SafeCopy } from './safe-copy.ts';
import { stagePhysicalRestore } from './stage.ts';
import { verifyDirectory } from './verify.ts';

const lostHint = {
  hint: 'Stop Chroma and restore the directory from a snapshot. If it is meant to be new, remove what is in it first.',
};

/** Captured physically: a safe copy of the hot persist directory, at the cut. */
export function physicalWay(place: PhysicalPlace, scratchDir: string, http: HttpWay): ChromaWay {
  const { name, path } = place;
  return {
    probe: (ctx) => probe(place, http, ctx),
    leftovers: () => leftoversAt([path]),
    async ready() {
      try {
        await requirePersistDirectory(path);
      } catch (cause) {
        throw new ServiceUnavailableError(`Chroma has not created ${join(path, 'chroma.sqlite3')} yet`, {
          cause,
        });
      }
    },
    async prepare(ctx) {
      const version = await http.version(ctx);
      return new PhysicalCapture(name, version, await SafeCopy.prepare(path, scratchDir, ctx), ctx);
    },
    async planRestore(from, facts, restore, ctx, source) {
      if (facts.method === 'logical') return http.planRestore(from, facts, restore, ctx, source);
      const decided = await planPhysicalRestore(from, facts, place, restore, source, ctx.signal);
      return singleUse(decided, (...stage) => stagePhysicalRestore(place, ...stage));
    },
    removeStaged: (restoreId) => removeStagedBeside(path, restoreId),
    verify: (facts, ctx) => verifyDirectory(place, scratchDir, facts, ctx),
  };
}

async function probe(
  { name, path }: PhysicalPlace,
  http: HttpWay,
  ctx: OperationContext,
): Promise<ComponentProbe> {
  await requirePersistDirectory(path);
  const sizeBytes = totalBytes(await listDirectory(path));
  await requireLockable(path);
  const serverVersion = (await http.version(ctx)) ?? undefined;
  const warnings = hasHotJournal(path)
    ? [
        `${name}: Chroma was killed while it wrote to ${path}; the backup lets SQLite roll back what was not committed, as Chroma's next start does`,
      ]
    : [];
  return { serverVersion, sizeBytes, summary: summaryOf(path), warnings };
}

function summaryOf(path: string): string {
  try {
    const database = openTablesForPlan(path);
    try {
      const indexes = countIndexesWithoutTables(path, database);
      if (indexes > 0) throw new TarsError('capture-failed', `${path}: ${tablesLost(indexes)}`, lostHint);
      const { collections, records } = countStored(database);
      return `${counted(collections, 'collection')}, ${counted(records, 'record')}`;
    } finally {
      database.close();
    }
  } catch (error) {
    if (hasHotJournal(path)) return 'an unknown number of collections';
    throw toTarsError(error, `Cannot read the Chroma directory ${path}`);
  }
}
