import { relative } from 'node:path/posix';
import {
  coveredPaths,
  isWithin,
  withoutCaptured,
  type CapturedPlace,
} from '../../../model/captured-place.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { FoundPlace, LeftOutMount } from '../../../ports/inventory.ts';
import type { ProjectMount } from '../project/mounts.ts';
import { reasonToLeaveOut } from './leave-out.ts';
import { lookAt, unseen, type PlaceLook } from './look.ts';
import { isAnonymous, outermost, placesOf, type StatePlace } from './state-places.ts';

/** What a project's services keep outside themselves, and what is known of it. */
export interface PlacesQuestion {
  readonly project: string;
  /** The project's directory on this machine, where it is known. */
  readonly directory: string | undefined;
  readonly mounts: readonly ProjectMount[];
  /** The image of each service. */
  readonly images: ReadonlyMap<string, string>;
  /** What components capture. */
  readonly captured: readonly CapturedPlace[];
  /** What need not be captured, whatever it is. */
  readonly leaveOut?: readonly CapturedPlace[];
  /** Why a component of kind `files` must not have a place, by its path. */
  readonly refused?: ReadonlyMap<string, string>;
  /** See {@link placesOf}. */
  readonly ended?: ReadonlySet<string>;
  /** Services with a store's image that are none, and whose unnamed volumes stay empty. */
  readonly jobs?: ReadonlySet<string>;
  /** Whether the services do not exist yet, so that what they will have cannot be looked at. */
  readonly isPlanned: boolean;
}

/** Every place that nothing captures: what is to be captured as a directory, and what is not. */
export interface FoundPlaces {
  /** In the order of their names, each outside the others. */
  readonly places: readonly FoundPlace[];
  readonly leftOut: readonly LeftOutMount[];
}

/** Single files may be captured twice; what cannot be looked at is a directory. */
async function directoriesOf(paths: readonly string[]): Promise<readonly string[]> {
  const looks = await Promise.all(paths.map(lookAt));
  return paths.filter((_, i) => looks[i]?.kind !== 'file');
}

interface Judged {
  readonly place: StatePlace;
  readonly look: PlaceLook;
  readonly sizeBytes: number | undefined;
  readonly reason: string | undefined;
  readonly problem: string | undefined;
}

/** Looks at every mount that none of the components captures. Changes nothing. */
export async function findPlaces(question: PlacesQuestion, ctx: OperationContext): Promise<FoundPlaces> {
  const open = withoutCaptured(question.mounts, [...question.captured, ...(question.leaveOut ?? [])]);
  const covered = question.captured.flatMap((place) => coveredPaths(place, question.mounts));
  const taken = await directoriesOf(covered);
  const judged = await Promise.all(placesOf(open, question).map((place) => judge(place, question, ctx)));
  const good = judged.filter(({ reason, problem }) => reason === undefined && problem === undefined);
  const places = outermost(good.map(({ place }) => place)).map((place) => found(place, good, taken));
  const isInside = ({ place }: Judged): boolean => places.some(({ path }) => isWithin(place.path, path));
  return {
    places,
    leftOut: judged
      .filter((each) => !good.includes(each) && !isInside(each))
      .flatMap(leftOutMounts)
      .sort((a, b) => (subjectOf(a) < subjectOf(b) ? -1 : 1)),
  };
}

const subjectOf = ({ service, destination }: Pick<LeftOutMount, 'service' | 'destination'>): string =>
  `${service}:${destination}`;

function found(
  { name, path, type, source, shownBy, mounts }: StatePlace,
  judged: readonly Judged[],
  taken: readonly string[],
): FoundPlace {
  const { service, destination: inside } = shownBy;
  const others = mounts.slice(1).map(subjectOf);
  const writers = [
    ...new Set(mounts.filter(({ readOnly }) => !readOnly).map((mount) => mount.service)),
  ].sort();
  const sizeBytes = judged.find(({ place }) => place.path === path)?.sizeBytes;
  return {
    ...{ name, service, inside, type, source, path, sizeBytes },
    others: [...new Set(others)].sort(),
    writers,
    exclude: patternsWithin(path, taken),
  };
}

/** Of directories in `outer`: as in a .gitignore there. */
export function patternsWithin(outer: string, directories: readonly string[]): readonly string[] {
  const inner = directories.filter((path) => path !== outer && isWithin(path, outer));
  const outermostOnly = inner.filter(
    (path) => !inner.some((other) => other !== path && isWithin(path, other)),
  );
  return [...new Set(outermostOnly)]
    .sort()
    .map((path) => `/${relative(outer, path).replaceAll(/[\\*?[\]]|\s$/g, String.raw`\$&`)}`);
}

const leftOutMounts = ({ place, look, sizeBytes, reason, problem }: Judged): LeftOutMount[] =>
  place.mounts.map(({ service, type, source, destination, path }) => ({
    ...{ service, type, source, destination, path, sizeBytes, reason, problem },
    isDirectory: look.kind === 'directory' || look.kind === 'unknown',
    isFile: look.kind === 'file' && look.canRead,
  }));

async function judge(
  place: StatePlace,
  { images, isPlanned, refused, jobs = new Set() }: PlacesQuestion,
  ctx: OperationContext,
): Promise<Judged> {
  const isAhead = isPlanned && place.type === 'volume';
  const look = isAhead || place.shownBy.onDemand === true ? unseen : await lookAt(place.path);
  const sizeBytes = await place.shownBy.measure(ctx);
  const services = place.mounts.flatMap(({ service }) => images.get(service) ?? []);
  const isOfJob =
    place.type === 'volume' &&
    isAnonymous(place.source) &&
    place.mounts.every(({ service }) => jobs.has(service));
  const reason = isOfJob
    ? 'an unnamed volume of a job'
    : reasonToLeaveOut(place, { look, sizeBytes, images: services });
  const problem = refused?.get(place.path) ?? (isAhead ? undefined : problemOf(place, look));
  return { place, look, sizeBytes, reason, problem: reason === undefined ? problem : undefined };
}

/** Why a component of kind `files` cannot capture it. */
function problemOf({ path, type, source, shownBy }: StatePlace, look: PlaceLook): string | undefined {
  if (shownBy.onDemand === true)
    return `the Engine mounts the volume ${source} only while ${shownBy.service} runs, so it could not be restored in place`;
  if (type === 'other') return 'neither a volume nor a directory of this machine';
  if (look.kind === 'missing') return `${path} is not on this machine`;
  if (look.kind === 'file') return 'a single file, which no configuration component names';
  if (look.kind === 'socket' || look.kind === 'other') return 'neither a file nor a directory';
  return look.canAccess ? undefined : `this user may not read and write ${path}: run tars as root`;
}
