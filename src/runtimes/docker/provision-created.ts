import type { OperationContext } from '../../ports/context.ts';
import type { CreatedResources, CreatedVolume } from '../../ports/provisioner.ts';
import { engineError, engineStatus, type Engine } from './engine.ts';
import { composeLabels, readProject } from './project.ts';

/** What the Engine had at one moment. */
export interface Existing {
  readonly containers: ReadonlySet<string>;
  readonly volumes: ReadonlySet<string>;
  readonly networks: ReadonlySet<string>;
}

export async function existing(engine: Engine, project: string): Promise<Existing> {
  const { containers } = await readProject(engine, project);
  try {
    const volumes = (await engine.listVolumes()).Volumes as { Name: string }[] | null;
    return {
      containers: new Set(containers.map(({ id }) => id)),
      volumes: new Set((volumes ?? []).map(({ Name: name }) => name)),
      networks: new Set(await networkIds(engine, project)),
    };
  } catch (error) {
    throw engineError(error, 'Cannot list the volumes');
  }
}

/** What the project has now and had not `before`. */
export async function createdSince(
  engine: Engine,
  project: string,
  before: Existing,
): Promise<CreatedResources> {
  const containers = (await readProject(engine, project)).containers.filter(
    ({ id }) => !before.containers.has(id),
  );
  const names = new Set(containers.flatMap(({ mounts }) => mounts.flatMap(({ volume }) => volume ?? [])));
  for (const name of await labelledVolumes(engine, project)) names.add(name);
  const volumes: CreatedVolume[] = [];
  for (const name of [...names].filter((candidate) => !before.volumes.has(candidate))) {
    const createdAt = await creationOf(engine, name);
    if (createdAt !== undefined) volumes.push({ name, createdAt });
  }
  const isNew = (name: string | undefined): boolean => volumes.some((volume) => volume.name === name);
  return {
    containers: containers.map(({ id, service, mounts }) => ({
      ...{ id, service },
      empty: mounts.every(({ type, volume, readOnly }) =>
        type === 'volume' ? isNew(volume) : type === 'tmpfs' || readOnly,
      ),
    })),
    volumes,
    networks: (await networkIds(engine, project)).filter((id) => !before.networks.has(id)),
  };
}

async function labelledVolumes(engine: Engine, project: string): Promise<readonly string[]> {
  const filters = { label: [`${composeLabels.project}=${project}`] };
  const { Volumes: volumes } = await engine.listVolumes({ filters: JSON.stringify(filters) } as object);
  return ((volumes as { Name: string }[] | null) ?? []).map(({ Name: name }) => name);
}

async function networkIds(engine: Engine, project: string): Promise<string[]> {
  const filters = { label: [`${composeLabels.project}=${project}`] };
  return (await engine.listNetworks({ filters })).map(({ Id: id }) => id);
}

export async function hasVolume(engine: Engine, name: string): Promise<boolean> {
  return (await creationOf(engine, name)) !== undefined;
}

/** When the volume was created; undefined when there is none. */
async function creationOf(engine: Engine, name: string): Promise<string | undefined> {
  try {
    const volume = await engine.getVolume(name).inspect();
    return (volume as { readonly CreatedAt?: string }).CreatedAt ?? '';
  } catch (error) {
    if (engineStatus(error) === 404) return undefined;
    throw engineError(error, `Cannot look at the volume ${name}`);
  }
}

/** Removes exactly what was created, as far as it is still that. Tries all, and says what is left. */
export async function removeCreated(
  engine: Engine,
  { containers, volumes, networks }: CreatedResources,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    ctx.signal.throwIfAborted();
    try {
      await work();
    } catch (error) {
      if (engineStatus(error) !== 404) left.push(engineError(error, `${what} could not be removed`).message);
    }
  };
  for (const { id, service, empty } of containers) {
    await attempt(`The container of ${service}`, async () => {
      const container = engine.getContainer(id);
      // What was there before must be written down in order.
      if (!empty) await container.stop({ t: 60 }).catch(ignoreStopped);
      await container.remove({ force: true });
    });
  }
  for (const { name, createdAt } of volumes) {
    await attempt(`The volume ${name}`, async () => {
      if ((await creationOf(engine, name)) === createdAt) await engine.getVolume(name).remove();
    });
  }
  for (const id of networks) await attempt('A network', () => engine.getNetwork(id).remove());
  return left;
}

function ignoreStopped(error: unknown): void {
  if (engineStatus(error) !== 304) throw error;
}
