import type { FoundPlace, LeftOutMount, StackInventory } from '../../ports/inventory.ts';
import type { Questions } from '../render/questions.ts';
import { formatBytes } from '../render/units.ts';

/** Larger than that, or so many times what all others hold: whether it is captured is asked. */
const largeBytes = 10 * 2 ** 30;
const largeTimes = 5;
/** Beside next to nothing, everything is large. */
const smallBytes = 2 ** 30;

/** Asks about each large directory whether it is captured; what is not stands in `leave_out`. @throws InterruptedError on Ctrl-C */
export async function askAboutLarge(
  inventory: StackInventory,
  questions: Pick<Questions, 'confirm'>,
  signal: AbortSignal,
): Promise<StackInventory> {
  const { places, seenThrough } = inventory;
  const left: FoundPlace[] = [];
  for (const place of places.filter((each) => isLarge(each, places))) {
    const { service, inside, sizeBytes } = place;
    // What does not exist yet has no size either.
    if (sizeBytes === undefined && seenThrough === 'files') continue;
    const size = sizeBytes === undefined ? 'very many files' : formatBytes(sizeBytes);
    const question = `${service}:${inside} holds ${size}. Do you want to back it up?`;
    if (!(await questions.confirm(question, signal))) left.push(place);
  }
  const leftOut = left.map(({ inside: destination, ...place }): LeftOutMount => ({
    ...{ ...place, destination, isDirectory: true, problem: undefined },
    reason: 'large, and left out on request',
  }));
  return {
    ...inventory,
    places: places.filter((place) => !left.includes(place)),
    leftOut: [...inventory.leftOut, ...leftOut],
  };
}

function isLarge({ sizeBytes }: FoundPlace, places: readonly FoundPlace[]): boolean {
  if (sizeBytes === undefined) return true;
  const all = places.reduce((sum, place) => sum + (place.sizeBytes ?? 0), 0);
  return sizeBytes > largeBytes || (sizeBytes > smallBytes && sizeBytes > largeTimes * (all - sizeBytes));
}
