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

/** What a component of a manifest counts beside bytes, by its kind. */
export type CountAmounts = (component: ComponentManifest) => readonly Amount[];

/** What one snapshot holds, by component; of a failed one there are no bytes. */
export function holdingsOf({ components }: Pick<Manifest, 'components'>, count: CountAmounts): Holdings {
  return new Map(components.map((component) => [component.name, amountsOf(component, count)]));
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

/** What a component's facts and artifacts count. */
function amountsOf(component: ComponentManifest, count: CountAmounts): Readonly<Record<string, number>> {
  const counts = count(component);
  // The bytes of an Ollama store say how its models were stored, its facts say what it has.
  const ownBytes = counts.some(([unit]) => unit.startsWith('bytes'));
  const { sizeBytes: storedBytes } = artifactTotals(component);
  const stored: Amount[] = ownBytes ? [] : [[`bytes of ${component.method ?? component.kind}`, storedBytes]];
  return Object.fromEntries([...counts, ...stored]);
}

/** What was counted, and how many there are. */
export type Amount = readonly [unit: string, amount: number];
