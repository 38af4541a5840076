import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import { collectionDigestsSchema, compareDigests } from './digest.ts';
import { decodeMetadata } from './record.ts';
import { spaceOf, spaceSchema, type SettingsTexts, type Space } from './space.ts';

/** One row of Chroma's `migrations` table: the truth about a directory's version. */
const migrationSchema = z.object({ dir: z.string(), version: z.number().int() });
export type Migration = z.infer<typeof migrationSchema>;

const collectionSchema = collectionDigestsSchema.extend({
  /** The id when captured. A logical restore cannot keep it. */
  id: z.string(),
  name: z.string(),
  /** `null` until the first record was added. */
  dimension: z.number().int().positive().nullable(),
  /** Canonical JSON (see `encodeMetadata`), `null` when the collection has none. */
  metadata: z.string().nullable(),
  /** The server's own JSON text of configuration, uninterpreted. */
  configuration: z.string().nullable(),
  /** The same for `schema`, which later 1.x servers keep instead. */
  schema: z.string().nullable().optional(),
  space: spaceSchema,
  /** Whether {@link space} is what the server searches by; 1.0.12 and earlier went by {@link configuration}. */
  spaceProven: z.boolean().optional(),
});
export type CollectionFacts = z.infer<typeof collectionSchema>;

const databaseSchema = z.object({ name: z.string(), collections: z.array(collectionSchema) });
const tenantSchema = z.object({ name: z.string(), databases: z.array(databaseSchema) });

const chromaFactsSchema = z.object({
  method: z.enum(['physical', 'logical']),
  /** What the server says of itself; `1.0.0` on every 1.x. `null` when no server was asked. */
  serverVersion: z.string().nullable(),
  /** The highest version per migration directory; known when the files were reachable. */
  migrations: z.array(migrationSchema).optional(),
  tenants: z.array(tenantSchema),
});
export type ChromaFacts = z.infer<typeof chromaFactsSchema>;
export type TenantFacts = z.infer<typeof tenantSchema>;

/** @throws CorruptionError when the manifest's facts are not those of a Chroma capture */
export function chromaFactsOf(from: ComponentManifest): ChromaFacts {
  const parsed = chromaFactsSchema.safeParse(from.facts);
  if (parsed.success) {
    for (const { collection } of placedCollections(parsed.data)) collection.space = capturedSpace(collection);
    return parsed.data;
  }
  throw new CorruptionError(
    `The facts of chroma "${from.name}" do not fit their schema: ${z.prettifyError(parsed.error)}`,
  );
}

/** The distance of a captured collection. Earlier releases took what a server declares by default for proven. */
export function capturedSpace({
  space,
  spaceProven,
  metadata,
  ...settings
}: SettingsTexts & {
  readonly space: Space;
  readonly spaceProven?: boolean | undefined;
  readonly metadata: string | null;
}): Space {
  if (spaceProven !== undefined) return space;
  return spaceOf(settings, metadata === null ? null : decodeMetadata(metadata));
}

/** A collection with the tenant and database it lives in. */
export interface PlacedCollection {
  readonly tenant: string;
  readonly database: string;
  readonly collection: CollectionFacts;
}

/** All collections, each with the tenant and database it is in. */
export function* placedCollections(facts: Pick<ChromaFacts, 'tenants'>): Generator<PlacedCollection> {
  for (const tenant of facts.tenants) {
    for (const database of tenant.databases) {
      for (const collection of database.collections) {
        yield { tenant: tenant.name, database: database.name, collection };
      }
    }
  }
}

/** `tenant/database/collection`: what a person and a comparison know a collection by. */
export function placeOf({ tenant, database, collection }: PlacedCollection): string {
  return `${tenant}/${database}/${collection.name}`;
}

/**
 * What an inspection found, against what was captured: damage of a collection that the capture lacks was there before,
 * is named in the manifest and does not speak against the rest.
 */
export function problemsAgainst(
  component: string,
  expected: Pick<ChromaFacts, 'tenants'>,
  problems: readonly Finding[],
): readonly Finding[] {
  const captured = new Set(
    [...placedCollections(expected)].map((placed) => `${component}/${placeOf(placed)}`),
  );
  return problems.map((problem) =>
    problem.subject === component || captured.has(problem.subject) || problem.severity !== 'error'
      ? problem
      : { ...problem, severity: 'warning' },
  );
}

/**
 * What differs between a capture and what is there now: missing, extra and changed collections.
 * @param component the component's name, for the findings' subject
 * @param vectors see `compareDigests`; cosine collections are always compared with the tolerance in `tolerant` mode
 */
export function compareFacts(
  component: string,
  expected: Pick<ChromaFacts, 'tenants'>,
  actual: Pick<ChromaFacts, 'tenants'>,
  vectors: 'exact' | 'tolerant',
): readonly Finding[] {
  const found = new Map([...placedCollections(actual)].map((placed) => [placeOf(placed), placed.collection]));
  const findings: Finding[] = [];
  const report = (place: string, severity: Finding['severity'], code: string, message: string): void => {
    findings.push({
      severity,
      subject: `${component}/${place}`,
      code,
      message: `Collection ${place}: ${message}`,
    });
  };
  for (const placed of placedCollections(expected)) {
    const place = placeOf(placed);
    const actualCollection = found.get(place);
    found.delete(place);
    if (actualCollection === undefined) {
      report(place, 'error', 'collection-missing', 'it was captured and is missing');
      continue;
    }
    const tolerant = vectors === 'tolerant' && placed.collection.space === 'cosine';
    for (const { code, message } of compareDigests(
      placed.collection,
      actualCollection,
      tolerant ? 'tolerant' : 'exact',
    )) {
      report(place, 'error', code, message);
    }
    if (placed.collection.metadata !== actualCollection.metadata) {
      report(
        place,
        'error',
        'collection-metadata-differs',
        'its own metadata differs from what was captured',
      );
    }
    const { space, spaceProven } = actualCollection;
    if (spaceProven !== false && space !== placed.collection.space) {
      const message = `its distance is ${space}; ${placed.collection.space} was captured`;
      report(place, 'error', 'distance-differs', message);
    }
  }
  for (const place of found.keys()) {
    report(place, 'warning', 'collection-extra', 'it exists and was not captured');
  }
  return findings;
}
