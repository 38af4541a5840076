import { CorruptionError, messageOf } from '../../../model/errors.ts';
import type { Finding } from '../../../model/finding.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import { counted } from '../../../model/plural.ts';
import type { ArtifactSource } from '../../../ports/artifacts.ts';
import type { Staged } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { compareFacts, placedCollections, placeOf, type ChromaFacts } from '../facts.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo, DatabasePlace } from './answers.ts';
import { createLike, importRecords, type ImportTarget } from './collection-import.ts';
import { generationName } from './collection-names.ts';
import { detectServer } from './detect.ts';
import { openExport, type OpenExport } from './export-format.ts';
import { probeFloatSpellings } from './float-probe.ts';
import { readLiveCollection } from './facts.ts';
import type { LogicalRestoreDetails, LogicalTarget } from './plan.ts';
import { structureFindings } from './verify.ts';
import { discardStaged, swapCollections, wayBackByRenames, type CollectionSwap } from './swap.ts';
import { ChromaResponseError } from './transport.ts';

const cleanUpTimeoutMs = 60_000;

/** Imports every export into collections of its own beside the live ones; on failure nothing staged remains. */
export async function stageLogicalRestore(
  target: LogicalTarget,
  details: LogicalRestoreDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const { client } = await detectServer(target, ctx);
  const staging = new Staging(client, target, details, ctx);
  const task = ctx.progress.start(target.name);
  try {
    for (const path of details.artifacts) {
      const opened = await openExport(source.open(path, ctx.signal), path);
      await staging.import(opened, (bytes) => task.advance(bytes));
    }
    const staged = await staging.finish();
    task.finish('ok');
    return staged;
  } catch (error) {
    task.finish('failed');
    // The operation's signal may be what ended us; the collections have to go all the same.
    await staging.abandon({ ...ctx, signal: AbortSignal.timeout(cleanUpTimeoutMs) });
    throw error;
  }
}

/** The collections built up so far. */
class Staging {
  readonly #client: ChromaClient;
  readonly #target: LogicalTarget;
  readonly #details: LogicalRestoreDetails;
  readonly #ctx: OperationContext;
  readonly #swaps: CollectionSwap[] = [];
  readonly #places = new Set<string>();
  #into: ImportTarget | undefined;

  constructor(
    client: ChromaClient,
    target: LogicalTarget,
    details: LogicalRestoreDetails,
    ctx: OperationContext,
  ) {
    this.#client = client;
    this.#target = target;
    this.#details = details;
    this.#ctx = ctx;
  }

  async import(opened: OpenExport, advance: (bytes: number) => void): Promise<void> {
    const { header } = opened;
    const details = this.#details;
    const placed = [...placedCollections(details.facts)].find(
      ({ collection }) => collection.id === header.id,
    );
    if (placed === undefined) {
      // Deleted while it was captured: there are no facts to hold it to.
      await opened.records.return();
      return;
    }
    await ensureDatabase(this.#client, header, this.#ctx);
    this.#into ??= {
      client: this.#client,
      preFlight: await this.#client.preFlight(this.#ctx),
      spellings: await probeFloatSpellings(this.#client, header, this.#ctx),
    };
    const nameFor = (generation: 'new' | 'prev'): string =>
      generationName(header.name, generation, details.restoreId, details.serverVersion);
    const live = await this.#client.findCollection(header, header.name, this.#ctx);
    const collection = await createLike(this.#into, header, nameFor('new'), this.#ctx);
    this.#swaps.push({
      tenant: header.tenant,
      database: header.database,
      name: header.name,
      stagedId: collection.id,
      stagedName: collection.name,
      previousId: live?.id ?? null,
      previousName: nameFor('prev'),
    });
    this.#places.add(header.id);
    const leftOut = await importRecords(this.#into, opened, collection, advance, this.#ctx);
    if (leftOut > 0) {
      this.#ctx.log.warn(
        `Collection ${placeOf(placed)}: left out ${counted(leftOut, 'record')} without a vector; the server they came from had lost it`,
      );
    }
  }

  async finish(): Promise<Staged> {
    const { facts } = this.#details;
    for (const placed of placedCollections(facts)) {
      if (this.#places.has(placed.collection.id)) continue;
      throw new CorruptionError(`The snapshot has no export of collection ${placeOf(placed)}`);
    }
    for (const { name: tenant, databases } of facts.tenants) {
      for (const { name: database } of databases) {
        await ensureDatabase(this.#client, { tenant, database }, this.#ctx);
      }
    }
    const client = this.#client;
    const swaps: readonly CollectionSwap[] = this.#swaps;
    const record: SwapRecord = {
      component: this.#target.name,
      kind: this.#target.kind,
      wayBack: wayBackByRenames(client.location, swaps),
      details: { method: 'logical', swaps },
    };
    return {
      record,
      replaces: undefined,
      verify: (ctx) => verifyStaged(client, this.#target.name, facts, swaps, ctx),
      swap: (ctx) => swapCollections(client, swaps, ctx),
      discard: (ctx) => discardStaged(client, swaps, ctx),
    };
  }

  async abandon(ctx: OperationContext): Promise<void> {
    try {
      await discardStaged(this.#client, this.#swaps, ctx);
    } catch (error) {
      const names = this.#swaps.map(({ stagedName }) => stagedName).join(', ');
      ctx.log.warn(`Cannot delete the staged collections ${names}: ${messageOf(error)}`);
    }
  }
}

/** Reads the staged collections back and compares them with the capture as if they had their final names. */
async function verifyStaged(
  client: ChromaClient,
  component: string,
  captured: ChromaFacts,
  swaps: readonly CollectionSwap[],
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const tenants: ChromaFacts['tenants'] = [];
  for (const { name: tenant, databases } of captured.tenants) {
    const read: ChromaFacts['tenants'][number]['databases'] = [];
    for (const { name: database, collections: expectedOnes } of databases) {
      const collections = [];
      for (const expected of expectedOnes) {
        const staged = await findStaged(client, { tenant, database }, expected.name, swaps, ctx);
        if (staged === undefined) continue;
        const live = await readLiveCollection(client, staged, 0, ctx);
        const facts = { ...live.facts, name: expected.name };
        collections.push(facts);
        const placed = { tenant, database, collection: facts };
        findings.push(...structureFindings(component, placed, expected, { ...live, facts }));
      }
      read.push({ name: database, collections });
    }
    tenants.push({ name: tenant, databases: read });
  }
  return [...compareFacts(component, captured, { tenants }, 'tolerant'), ...findings];
}

async function findStaged(
  client: ChromaClient,
  place: DatabasePlace,
  name: string,
  swaps: readonly CollectionSwap[],
  ctx: OperationContext,
): Promise<CollectionInfo | undefined> {
  const swap = swaps.find(
    (candidate) =>
      candidate.tenant === place.tenant && candidate.database === place.database && candidate.name === name,
  );
  return swap === undefined ? undefined : client.findCollection(place, swap.stagedName, ctx);
}

/** Creates tenant and database when they are missing. */
async function ensureDatabase(
  client: ChromaClient,
  place: DatabasePlace,
  ctx: OperationContext,
): Promise<void> {
  const { tenant, database } = place;
  if ((await client.listDatabases(tenant, ctx)).includes(database)) return;
  if (!(await client.tenantExists(tenant, ctx))) await unlessThere(client.createTenant(tenant, ctx));
  await unlessThere(client.createDatabase(place, ctx));
}

async function unlessThere(creation: Promise<void>): Promise<void> {
  try {
    await creation;
  } catch (error) {
    if (!(error instanceof ChromaResponseError) || error.status !== 409) throw error;
  }
}
