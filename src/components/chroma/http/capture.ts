import { messageOf, TarsError } from '../../../model/errors.ts';
import { counted } from '../../../model/plural.ts';
import type { ArtifactSink, Bytes } from '../../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { CollectionDigester } from '../digest.ts';
import { placedCollections, type ChromaFacts, type CollectionFacts, type TenantFacts } from '../facts.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import { factsOfCollection } from './collection-settings.ts';
import { detectServer } from './detect.ts';
import { headerLine, recordLine } from './export-format.ts';
import { CollectionGoneError, readSettledRecords } from './record-reader.ts';
import { findSpace } from './space-probe.ts';
import { ChromaResponseError, ResponseTooLargeError, type ChromaEndpoint } from './transport.ts';

/** What a capture over HTTP needs to know. */
interface LogicalCaptureOptions extends ChromaEndpoint {
  /** The component's name: the folder of its artifacts. */
  readonly name: string;
  /** The API lists no tenants; these are captured. `default_tenant` alone by default. */
  readonly tenants?: readonly string[];
}

/** The tenant of a server nobody configured another one for. */
export const defaultTenants: readonly string[] = ['default_tenant'];

/**
 * Prepares a capture over HTTP: all ids of a collection first, then the records by their ids, so that concurrent
 * deletes shift nothing (offset paging misses records under deletes). Every record that exists throughout the
 * capture is in it; it has a moment of its own.
 * @throws ServiceUnavailableError | TarsError `unsupported-version`, see {@link detectServer}
 */
export async function prepareLogicalCapture(
  options: LogicalCaptureOptions,
  ctx: OperationContext,
): Promise<PreparedCapture> {
  const { client, version } = await detectServer(options, ctx);
  const tenants = options.tenants ?? defaultTenants;
  for (const tenant of tenants) await requireTenant(client, tenant, ctx);
  const nothing = (): Promise<void> => Promise.resolve();
  return {
    pointInTime: 'own',
    mark: nothing,
    settle: nothing,
    capture: (sink, captureCtx) =>
      captureServer({ client, version, name: options.name, tenants, sink }, captureCtx),
    [Symbol.asyncDispose]: nothing,
  };
}

async function requireTenant(client: ChromaClient, tenant: string, ctx: OperationContext): Promise<void> {
  // Databases can exist under a tenant that was never created.
  if ((await client.listDatabases(tenant, ctx)).length > 0 || (await client.tenantExists(tenant, ctx)))
    return;
  throw new TarsError('configuration', `Chroma at ${client.location} has no tenant "${tenant}"`, {
    hint: 'Correct the list of tenants in tars.yaml.',
  });
}

/** How many missing records are named; the others are counted. */
const namedMax = 20;

interface Capturing {
  readonly client: ChromaClient;
  readonly version: string;
  readonly name: string;
  readonly tenants: readonly string[];
  readonly sink: ArtifactSink;
}

async function captureServer(capturing: Capturing, ctx: OperationContext): Promise<CaptureReport> {
  const { client, version, name } = capturing;
  const task = ctx.progress.start(name);
  const lacking: Lacking[] = [];
  let artifacts = 0;
  const captureDatabase = async (tenant: string, database: string): Promise<readonly CollectionFacts[]> => {
    const collections: CollectionFacts[] = [];
    for (const collection of await client.listCollections({ tenant, database }, ctx)) {
      const path = `${name}/export/${++artifacts}.jsonl`;
      const advance = (bytes: number): void => task.advance(bytes);
      try {
        const facts = await captureCollection(capturing, collection, path, lacking, advance, ctx);
        if (facts !== undefined) collections.push(facts);
      } catch (error) {
        lacking.push({ path: pathOf(collection), reason: reasonOfItsOwn(error), error });
      }
    }
    return collections;
  };
  try {
    const tenants: TenantFacts[] = [];
    for (const tenant of capturing.tenants) {
      const databases: TenantFacts['databases'] = [];
      for (const database of await client.listDatabases(tenant, ctx)) {
        databases.push({ name: database, collections: [...(await captureDatabase(tenant, database))] });
      }
      tenants.push({ name: tenant, databases });
    }
    const facts: ChromaFacts = { method: 'logical', serverVersion: version, tenants };
    requireSome(facts, lacking);
    task.finish('ok');
    const report = { serverVersion: version, method: 'logical', writesBlockedMs: 0, facts: { ...facts } };
    return { ...report, ...incompleteOf(lacking) };
  } catch (error) {
    task.finish('failed');
    throw error;
  }
}

/** A collection that the capture lacks, or of which it says something less than its equality. */
interface Lacking {
  readonly path: string;
  readonly reason: string;
  /** Why all of it is missing. */
  readonly error?: unknown;
}

const pathOf = ({ tenant, database, name }: CollectionInfo): string => `${tenant}/${database}/${name}`;

const incompleteOf = (lacking: readonly Lacking[]): Pick<CaptureReport, 'incomplete'> =>
  lacking.length === 0
    ? {}
    : {
        incomplete: {
          count: lacking.length,
          named: lacking.slice(0, namedMax).map(({ path, reason }) => ({ path, reason })),
        },
      };

const damageCodes = new Set(['capture-failed', 'unsupported-version', 'corruption', 'timeout']);

/**
 * What is wrong with one collection. Some damaged ones answer 500 to everything; only their files can still be read.
 * @throws `error` itself when it is not the collection's
 */
function reasonOfItsOwn(error: unknown): string {
  const ofItsOwn =
    error instanceof ResponseTooLargeError ||
    (error instanceof ChromaResponseError
      ? error.code !== 'access-denied' && ![429, 502, 503, 504].includes(error.status)
      : error instanceof TarsError && damageCodes.has(error.code));
  if (!ofItsOwn) throw error;
  return `Chroma cannot read it (${messageOf(error)}); give the path of its persist directory in tars.yaml, which is read without the server`;
}

/** A capture of nothing but failures is a failure. */
function requireSome(facts: ChromaFacts, lacking: readonly Lacking[]): void {
  const failed = lacking.find(({ error }) => error !== undefined);
  if (failed === undefined || !placedCollections(facts).next().done) return;
  throw new TarsError(
    'capture-failed',
    `Chroma cannot read its collection ${failed.path}: ${messageOf(failed.error)}`,
    {
      hint: 'Give the path of its persist directory in tars.yaml: a physical capture reads it without the server.',
      cause: failed.error,
    },
  );
}

/** `undefined` when the collection was deleted before or while it was read. */
async function captureCollection(
  { client, sink }: Capturing,
  collection: CollectionInfo,
  path: string,
  lacking: Lacking[],
  advance: (bytes: number) => void,
  ctx: OperationContext,
): Promise<CollectionFacts | undefined> {
  const place = pathOf(collection);
  const ids = await client.listIds(collection, collection.id, ctx);
  if (ids === undefined) {
    ctx.log.info(`Collection ${place} was deleted before it was read; it is not in the snapshot`);
    return undefined;
  }
  const known = await findSpace(client, collection, ids, ctx);
  const digester = new CollectionDigester();
  const seen = { gone: false, withoutVector: 0, unsettled: 0 };
  const countUnsettled = (): void => {
    seen.unsettled++;
  };
  const body = async function* (): Bytes {
    yield Buffer.from(headerLine(collection, known));
    try {
      for await (const records of readSettledRecords(client, collection, ids, countUnsettled, ctx)) {
        for (const record of records) {
          if (record.vector === null) seen.withoutVector++;
          else digester.add(record);
        }
        const lines = Buffer.from(records.map(recordLine).join(''));
        advance(lines.length);
        yield lines;
      }
    } catch (error) {
      if (!(error instanceof CollectionGoneError)) throw error;
      seen.gone = true;
    }
  };
  await sink.write(path, body(), {
    attributes: {
      mode: 0o600,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      mtimeNs: BigInt(ctx.clock.now().getTime()) * 1_000_000n,
    },
    chunking: 'stream',
    signal: ctx.signal,
  });
  if (seen.gone) {
    ctx.log.info(`Collection ${place} was deleted while it was read; it will not be restored`);
    return undefined;
  }
  if (seen.unsettled > 0) {
    lacking.push({
      path: place,
      reason: `${counted(seen.unsettled, 'record')} changed with every reading, so vector and document may be from different moments; pause the services that write them, or give the path of the persist directory`,
    });
  }
  if (seen.withoutVector > 0) {
    // Adding a record without a vector would make the restored collection unreadable too.
    ctx.log.warn(
      `Collection ${place} has ${counted(seen.withoutVector, 'record')} whose vectors Chroma has lost; their text is kept in ${path}, a restore leaves them out`,
    );
  }
  return factsOfCollection(await dimensionNow(client, collection, ctx), known, digester.result());
}

/** The dimension is set by the first record, which may have come after the listing. */
async function dimensionNow(
  client: ChromaClient,
  collection: CollectionInfo,
  ctx: OperationContext,
): Promise<CollectionInfo> {
  if (collection.dimension !== null) return collection;
  const now = await client.findCollection(collection, collection.name, ctx);
  return now?.id === collection.id ? { ...collection, dimension: now.dimension } : collection;
}
