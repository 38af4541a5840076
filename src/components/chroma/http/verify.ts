import type { Finding } from '../../../model/finding.ts';
import type { OperationContext } from '../../../ports/context.ts';
import {
  compareFacts,
  placedCollections,
  placeOf,
  type ChromaFacts,
  type CollectionFacts,
  type PlacedCollection,
  type TenantFacts,
} from '../facts.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import { isGenerationName } from './collection-names.ts';
import { detectServer } from './detect.ts';
import { readLiveCollection, type LiveCollection } from './facts.ts';
import { probeSearch } from './search-probe.ts';
import { CollectionGoneError } from './record-reader.ts';
import { ChromaResponseError, type ChromaEndpoint } from './transport.ts';

const probesPerCollection = 20;

/** The server to verify, and the component's name for the findings' subjects. */
interface LiveVerifyOptions extends ChromaEndpoint {
  readonly name: string;
}

/**
 * Compares what a running server answers with a capture's facts, reading every record: the collections, their ids,
 * documents and metadata by digest; a vector for every record, exact for l2 and ip and within a tolerance for cosine
 * (which Chroma keeps normalised and so returns up to an ulp off); and whether searching for records' own vectors
 * finds them.
 * @throws ServiceUnavailableError when the server does not answer
 */
export async function verifyLive(
  options: LiveVerifyOptions,
  expected: Pick<ChromaFacts, 'tenants'>,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const { client } = await detectServer(options, ctx);
  const component = options.name;
  const wanted = new Map(
    [...placedCollections(expected)].map((placed) => [placeOf(placed), placed.collection]),
  );
  const findings: Finding[] = [];
  const tenants: TenantFacts[] = [];
  for (const { name: tenant } of expected.tenants) {
    const databases: TenantFacts['databases'] = [];
    for (const database of await client.listDatabases(tenant, ctx)) {
      const collections: CollectionFacts[] = [];
      for (const info of await client.listCollections({ tenant, database }, ctx)) {
        const place = `${tenant}/${database}/${info.name}`;
        const capturedAs = wanted.get(place);
        if (capturedAs === undefined) {
          // Kept previous generations are ours and no surprise; anything else is reported without being read.
          if (!isGenerationName(info.name)) findings.push(extraFinding(component, place));
          continue;
        }
        const live = await readOrReport(client, info, ctx);
        if ('code' in live) {
          findings.push({ ...live, subject: `${component}/${place}` });
          continue;
        }
        collections.push(live.facts);
        findings.push(...(await verifyCollection(component, client, info, capturedAs, live, ctx)));
      }
      databases.push({ name: database, collections });
    }
    tenants.push({ name: tenant, databases });
  }
  return [...compareFacts(component, expected, { tenants }, 'tolerant'), ...findings];
}

/** The collection, or what keeps it from being read. One deleted meanwhile is reported as missing by the comparison. */
async function readOrReport(
  client: ChromaClient,
  info: CollectionInfo,
  ctx: OperationContext,
): Promise<LiveCollection | Omit<Finding, 'subject'>> {
  const place = `${info.tenant}/${info.database}/${info.name}`;
  try {
    return await readLiveCollection(client, info, probesPerCollection, ctx);
  } catch (error) {
    const unreadable = error instanceof ChromaResponseError && error.status === 500;
    if (!unreadable && !(error instanceof CollectionGoneError)) throw error;
    const message = `Collection ${place}: it cannot be read (${error.message})`;
    return { severity: 'error', code: 'collection-unreadable', message };
  }
}

/** What {@link compareFacts} does not look at. */
async function verifyCollection(
  component: string,
  client: ChromaClient,
  info: CollectionInfo,
  captured: CollectionFacts,
  live: LiveCollection,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const placed: PlacedCollection = { tenant: info.tenant, database: info.database, collection: live.facts };
  const findings = structureFindings(component, placed, captured, live);
  if (live.facts.recordCount === 0) return findings;
  const missed = await probeSearch(client, info, live, ctx);
  if (missed.length === 0) return findings;
  const share = missed.length / live.sample.length;
  const subject = `${component}/${placeOf(placed)}`;
  const message = `Collection ${placeOf(placed)}: ${missed.length} of ${live.sample.length} records are not found by searching for their own vectors`;
  // The index is approximate, the more so for random vectors (1 of 20 missed at 20,000 x 384): only most is damage.
  const severity = share > 0.5 ? 'error' : 'info';
  return [...findings, { severity, subject, code: 'search-misses-records', message }];
}

/** Differences in what the collection is, and between the server's own answers. Exported for other ways of reading. */
export function structureFindings(
  component: string,
  placed: PlacedCollection,
  captured: CollectionFacts,
  live: Pick<LiveCollection, 'facts' | 'count' | 'oddDimensions'>,
): readonly Finding[] {
  const { facts, count, oddDimensions } = live;
  const findings: Finding[] = [];
  const report = (code: string, message: string): void => {
    const place = placeOf(placed);
    findings.push({
      severity: 'error',
      subject: `${component}/${place}`,
      code,
      message: `Collection ${place}: ${message}`,
    });
  };
  if (captured.recordCount > 0 && facts.dimension !== captured.dimension) {
    report(
      'dimension-differs',
      `its dimension is ${String(facts.dimension)}; ${String(captured.dimension)} was captured`,
    );
  }
  if (oddDimensions > 0)
    report('dimension-differs', `${oddDimensions} vectors have another dimension than the collection`);
  if (count !== facts.recordCount) {
    report('count-contradicts', `the server counts ${count} records and returns ${facts.recordCount}`);
  }
  return findings;
}

const extraFinding = (component: string, place: string): Finding => ({
  severity: 'warning',
  subject: `${component}/${place}`,
  code: 'collection-extra',
  message: `Collection ${place}: it exists and was not captured`,
});
