import { z } from 'zod';
import { artifactTotals } from './artifact-list.ts';
import type { ComponentManifest, Manifest } from './manifest.ts';

/** A store that holds at most half of what it held before. */
export interface Shrinkage {
  readonly component: string;
  /** What was counted, such as `rows`. */
  readonly unit: string;
  readonly before: number;
  readonly after: number;
}

/** Smaller amounts halve and double every day. */
const smallestBytes = 64 << 10;
const smallestCount = 10;

/** What snapshots hold: by component and unit the largest amount that any of them has. */
export type Holdings = ReadonlyMap<string, Readonly<Record<string, number>>>;

/** What one snapshot holds, by component; of a failed one there are no bytes. */
export function holdingsOf({ components }: Pick<Manifest, 'components'>): Holdings {
  return new Map(components.map((component) => [component.name, amountsOf(component)]));
}

/** What two lots of snapshots hold together. */
export function joinHoldings(some: Holdings, others: Holdings): Holdings {
  const joined = new Map(some);
  for (const [name, amounts] of others) {
    const known = joined.get(name) ?? {};
    const larger = Object.entries(amounts).map(([unit, n]): [string, number] => [
      unit,
      Math.max(n, known[unit] ?? 0),
    ]);
    joined.set(name, { ...known, ...Object.fromEntries(larger) });
  }
  return joined;
}

/**
 * Stores that have shrunk by half or more, or are not there at all: rows, keys, vectors, models, files and bytes are
 * compared component by component, whatever both sides record. A store that was emptied by mistake must not lead to
 * the good snapshots of it being forgotten.
 */
export function findShrinkage(before: Holdings, after: Holdings): readonly Shrinkage[] {
  return [...before].flatMap(([component, had]) => {
    const has = after.get(component);
    if (has === undefined) return [{ component, unit: 'components', before: 1, after: 0 }];
    return Object.entries(had).flatMap(([unit, amount]) => {
      const left = has[unit];
      if (left === undefined || !hasShrunk(unit, amount, left)) return [];
      return [{ component, unit, before: amount, after: left }];
    });
  });
}

function hasShrunk(unit: string, before: number, after: number): boolean {
  if (unit.startsWith('bytes')) return before >= smallestBytes && after <= before / 2;
  return before > 0 && (after === 0 || (before >= smallestCount && after <= before / 2));
}

/**
 * One line for a person, about the newest snapshot and the one before.
 * @param isConfigured whether tars.yaml still names the component
 */
export function describeShrinkage(shrinkage: Shrinkage, isConfigured: boolean): string {
  const { component, unit, before, after } = shrinkage;
  if (unit === 'components' && !isConfigured) return `${component} is no longer in tars.yaml`;
  if (unit === 'components') return `${component} was in the previous snapshot and is not in the newest`;
  return `${component} had ${before} ${nounOf(shrinkage)} and now has ${after}`;
}

/** The same about snapshot `id`, which would go, and those newer than it that stay. */
export function describeLoss(shrinkage: Shrinkage, id: string, isConfigured: boolean): string {
  const { component, unit, before, after } = shrinkage;
  if (unit === 'components' && !isConfigured)
    return `${component} is no longer in tars.yaml, and ${id}, which would be removed, is the newest snapshot that has it`;
  if (unit === 'components')
    return `${component} is in ${id}, which would be removed, and in no newer snapshot that stays`;
  return `${component} has ${before} ${nounOf(shrinkage)} in ${id}, which would be removed, and at most ${after} in newer snapshots that stay`;
}

function nounOf({ unit }: Shrinkage): string {
  const [noun = unit, note] = unit.split(' of ');
  return note === undefined ? noun : `${noun} (${note})`;
}

/**
 * What a component's facts and artifacts count. Facts are the component's own, so only what is needed is looked at,
 * and what does not fit counts nothing.
 */
function amountsOf(component: ComponentManifest): Readonly<Record<string, number>> {
  const counts = factCounts.flatMap((count) => count(component.facts));
  // The bytes of an Ollama store say how its models were stored, its facts say what it has.
  const ownBytes = counts.some(([unit]) => unit.startsWith('bytes'));
  const { count: artifacts, sizeBytes: storedBytes } = artifactTotals(component);
  // Every file of a directory is an artifact; of what failed nothing is known.
  if (component.kind === 'files' && component.outcome === 'captured') counts.push(['files', artifacts]);
  const stored: Amount[] = ownBytes ? [] : [[`bytes of ${component.method ?? component.kind}`, storedBytes]];
  return Object.fromEntries([...counts, ...stored]);
}

type Amount = readonly [unit: string, amount: number];

const sumOf = <T>(items: readonly T[], amount: (item: T) => number): number =>
  items.reduce((sum, item) => sum + amount(item), 0);

/** A reader of facts that take `schema`; silent about all others. */
const counting =
  <T>(schema: z.ZodType<T>, count: (facts: T) => readonly Amount[]) =>
  (facts: unknown): readonly Amount[] => {
    const parsed = schema.safeParse(facts);
    return parsed.success ? count(parsed.data) : [];
  };

const count = z.number().nonnegative();

const factCounts = [
  // PostgreSQL
  counting(
    z.object({
      databases: z.array(
        z.object({
          content: z.object({
            tables: z.array(z.object({ rows: count })),
            largeObjects: z.object({ count }),
          }),
        }),
      ),
    }),
    ({ databases }) => [
      ['rows', sumOf(databases, ({ content }) => sumOf(content.tables, ({ rows }) => rows))],
      ['large objects', sumOf(databases, ({ content }) => content.largeObjects.count)],
    ],
  ),
  // Redis
  counting(
    z.object({ content: z.object({ databases: z.array(z.object({ keys: count })) }) }),
    ({ content }) => [['keys', sumOf(content.databases, ({ keys }) => keys)]],
  ),
  // Chroma
  counting(
    z.object({
      tenants: z.array(
        z.object({
          databases: z.array(
            z.object({ collections: z.array(z.object({ recordCount: count, vectorCount: count })) }),
          ),
        }),
      ),
    }),
    ({ tenants }) => {
      const collections = tenants.flatMap(({ databases }) =>
        databases.flatMap((database) => database.collections),
      );
      return [
        ['records', sumOf(collections, ({ recordCount }) => recordCount)],
        ['vectors', sumOf(collections, ({ vectorCount }) => vectorCount)],
      ];
    },
  ),
  // Ollama
  counting(
    z.object({ models: z.array(z.object({ blobs: z.array(z.object({ sizeBytes: count })) })) }),
    ({ models }) => [
      ['models', models.length],
      ['bytes of models', sumOf(models, ({ blobs }) => sumOf(blobs, ({ sizeBytes }) => sizeBytes))],
    ],
  ),
  // Configuration
  counting(z.object({ files: z.array(z.unknown()) }), ({ files }) => [['files', files.length]]),
] as const;
