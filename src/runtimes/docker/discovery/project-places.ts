import { coveredPaths, type CapturedPlace } from '../../../model/captured-place.ts';
import type { NotCaptured } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import type { Engine } from '../engine/engine.ts';
import { mountsOf } from '../project/mounts.ts';
import type { Project, ProjectContainer } from '../project/project.ts';
import { findPlaces, type FoundPlaces } from './find-places.ts';
import { layerState } from './layer-state.ts';
import { isJob, isStore, storeOf, type StoreTraits } from './recognise.ts';

/** What a project's services keep, and what of it is in no place that could be captured. */
export interface ProjectPlaces extends FoundPlaces {
  /** Data in containers themselves. */
  readonly atRisk: readonly NotCaptured[];
}

interface ProjectPlacesQuestion {
  /** What components capture. */
  readonly captured: readonly CapturedPlace[];
  /** What need not be captured, whatever it is. */
  readonly leaveOut: readonly CapturedPlace[];
  readonly kinds: readonly StoreTraits[];
}

/** The places of a project with containers, as {@link findPlaces} judges them. Changes nothing. */
export async function findProjectPlaces(
  engine: Engine,
  address: EngineAddress,
  { name: project, containers, composeFiles, workingDir }: Project,
  { captured, leaveOut, kinds }: ProjectPlacesQuestion,
  ctx: OperationContext,
): Promise<ProjectPlaces> {
  const mounts = mountsOf(containers, address);
  const question = {
    ...{ project, directory: workingDir ?? directoryOf(composeFiles), mounts, captured, leaveOut },
    isPlanned: false,
    ...endedServices(containers, kinds),
    images: new Map(containers.map(({ service, image }) => [service, image])),
    refused: new Map(containers.flatMap((container) => dataOfStore(container, kinds, mounts))),
  };
  const others = containers.filter((each) => !isStore(each, kinds) && !isJob(each, kinds));
  const [found, atRisk] = await Promise.all([
    findPlaces(question, ctx),
    Promise.all(others.map((container) => layerState(engine, container, ctx))),
  ]);
  return { ...found, atRisk: atRisk.flat() };
}

/** For {@link findPlaces}: services that have ended, and those that are known to be jobs, running or not. */
export function endedServices(
  containers: readonly ProjectContainer[],
  kinds: readonly StoreTraits[],
): { readonly ended: ReadonlySet<string>; readonly jobs: ReadonlySet<string> } {
  const jobs = containers.filter((container) => isJob(container, kinds));
  const hasEnded = (container: ProjectContainer): boolean =>
    container.hasFinished === true || (jobs.includes(container) && container.state === 'stopped');
  const ended = containers.filter(hasEnded);
  const named = (of: typeof containers): ReadonlySet<string> => new Set(of.map(({ service }) => service));
  return { ended: named(ended), jobs: named(jobs) };
}

const directoryOf = ([first]: readonly string[]): string | undefined => first?.replace(/\/[^/]*$/, '');

/** A copy of the files of a server that runs is no backup of it. Where a component has them, none is asked for. */
function dataOfStore(
  container: ProjectContainer,
  kinds: readonly StoreTraits[],
  mounts: Parameters<typeof coveredPaths>[1],
): readonly (readonly [string, string])[] {
  const store = storeOf(container, kinds);
  if (store === undefined || container.state === 'stopped') return [];
  const { service } = container;
  const { kind, expectedDirectory } = store;
  const reason = `the data of ${service}, which looks like a store of kind ${kind}: add a component with kind: ${kind} and service: ${service}`;
  const paths = coveredPaths({ store: expectedDirectory(container), service }, mounts);
  return paths.map((path) => [path, reason] as const);
}
