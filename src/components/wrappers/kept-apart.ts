import { PlaceLookup } from '../../disk/place-identity.ts';
import { ConfigurationError, RestoreRefusedError } from '../../model/errors.ts';
import type { NotCaptured } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';
import type { LeavesOut, LeftOutWays } from '../../ports/kind.ts';
import { planWhereFound, type FoundComponent } from '../restore/where-found.ts';

/** A place that is not this component's: tars needs it itself, or another component captures it. */
export interface ReservedPlace {
  readonly path: string;
  /** Such as `the repository`, or `a place of the component uploads`. */
  readonly what: string;
  /** `tars`: with all that lies in it. `shared`: tars has only files of its own in it. `component`: another captures it. */
  readonly owner: 'tars' | 'shared' | 'component';
  /** A component that comes later in tars.yaml has to give way where both name the same place. */
  readonly givesWay?: boolean;
}

/** How a component's places lie to reserved ones. */
export interface Relations {
  readonly leftOut: LeftOutWays;
  /** What of it tars needs itself, which nothing captures. */
  readonly notCaptured: readonly NotCaptured[];
  /** What cannot be left out: a sentence each. */
  readonly conflicts: readonly string[];
}

/** What decides about one component. */
export interface PlaceQuestion {
  readonly name: string;
  /** Absolute paths of this machine. */
  readonly own: readonly string[];
  /** `parts`: what lies in a place may be left out. `files`: one file of several may. `whole`: neither. */
  readonly leavesOut: LeavesOut;
  readonly reserved: readonly ReservedPlace[];
}

/** Looks at the disk as it is now. */
export async function relationsOf({ name, own, leavesOut, reserved }: PlaceQuestion): Promise<Relations> {
  const leftOut = new Map<string, string[]>();
  const notCaptured: NotCaptured[] = [];
  const conflicts: string[] = [];
  const lookup = new PlaceLookup();
  for (const [index, place] of own.entries()) {
    const ways: string[] = [];
    for (const other of [...reserved, ...othersOf(name, own, index)]) {
      const down = await lookup.waysDown(place, other.path);
      const isSame = down.includes('');
      if (isSame && other.givesWay === true) continue;
      const canLeaveOut = leavesOut === 'files' ? isSame : leavesOut === 'parts' && !isSame;
      if (down.length > 0 && canLeaveOut) {
        ways.push(...down);
        if (other.owner !== 'component')
          notCaptured.push({ subject: other.path, reason: `${other.what}; ${name} leaves it out` });
      } else if (isSame) {
        conflicts.push(`${place} of ${name} is ${other.what}`);
      } else if (down.length > 0) {
        conflicts.push(`${other.path}, ${other.what}, lies in ${place} of ${name}`);
      } else if (other.owner === 'tars' && (await lookup.waysDown(other.path, place)).length > 0) {
        conflicts.push(`${place} of ${name} lies in ${other.what}, ${other.path}`);
      }
    }
    if (ways.length > 0) leftOut.set(place, ways);
  }
  return { leftOut, notCaptured, conflicts };
}

/** The other places of the same component. */
function othersOf(name: string, own: readonly string[], index: number): readonly ReservedPlace[] {
  const what = `another place of ${name}`;
  return own.flatMap((path, position): ReservedPlace[] =>
    position === index ? [] : [{ path, what, owner: 'component', givesWay: position > index }],
  );
}

/** What to do about a conflict. */
const conflictHint =
  'Move one of them to another place, or list each place only once under components: in tars.yaml. tars never captures or replaces the files that it needs itself.';

/** A component that is built around what its places must leave out. */
interface KeptApartOptions extends PlaceQuestion {
  readonly build: (leftOut: LeftOutWays) => Component;
}

/**
 * A component that neither captures nor exchanges what tars needs itself or another component captures. Where that lies
 * is looked up at every call: links and mounts may have changed, and a snapshot may be older than `tars.yaml`.
 */
export function createKeptApart({ build, ...question }: KeptApartOptions): Component {
  const plain = build(new Map());
  const { name, kind, service, precaptures = false } = plain;
  const apart = async (refuse: (message: string) => Error): Promise<FoundComponent> => {
    const { leftOut, conflicts } = await relationsOf(question);
    if (conflicts.length > 0) throw refuse(conflicts.join('; '));
    return { component: build(leftOut), where: JSON.stringify([...leftOut]) };
  };
  const toCapture = (): Promise<FoundComponent> =>
    apart((message) => new ConfigurationError(`Cannot capture ${name}: ${message}`, { hint: conflictHint }));
  const toRestore = (): Promise<FoundComponent> =>
    apart((message) => new RestoreRefusedError(`Cannot restore ${name}: ${message}`, { hint: conflictHint }));
  return {
    ...{ name, kind, service, precaptures },
    places: async (ctx) => (await plain.places?.(ctx)) ?? [],
    leftovers: async (ctx) => (await plain.leftovers?.(ctx)) ?? [],
    leftOut: async (ctx) => [
      ...(await relationsOf(question)).notCaptured,
      // What cannot be asked now is reported by what fails over it.
      ...((await Promise.resolve(plain.leftOut?.(ctx)).catch(() => undefined)) ?? []),
    ],
    probe: async (ctx) => (await toCapture()).component.probe(ctx),
    ready: (ctx) => plain.ready(ctx),
    prepare: async (ctx) => (await toCapture()).component.prepare(ctx),
    planRestore: (...restore) => planWhereFound(toRestore, ...restore),
    // A journalled restore is recovered whatever the settings are now.
    removeStaged: (restoreId, ctx) => plain.removeStaged(restoreId, ctx),
    generation: (record) => plain.generation(record),
    verify: async (from, ctx, source) =>
      build((await relationsOf(question)).leftOut).verify(from, ctx, source),
  };
}
