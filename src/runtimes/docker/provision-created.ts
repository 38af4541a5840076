import type { OperationContext } from '../../ports/context.ts';
import type { CreatedResources } from '../../ports/provisioner.ts';
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
  const volumes = [...names].filter((name) => !before.volumes.has(name));
  const isNew = (name: string | undefined): boolean => name !== undefined && volumes.includes(name);
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
  try {
    await engine.getVolume(name).inspect();
    return true;
  } catch (error) {
    if (engineStatus(error) === 404) return false;
    throw engineError(error, `Cannot look at the volume ${name}`);
  }
}

/** Of the volumes, those that the containers hold. */
async function heldVolumes(engine: Engine, { containers, volumes }: CreatedResources): Promise<Set<string>> {
  const held = new Set<string>();
  for (const { id } of containers) {
    const info = await engine
      .getContainer(id)
      .inspect()
      .catch(() => undefined);
    for (const { Name: name } of info?.Mounts ?? []) if (name !== undefined) held.add(name);
  }
  return new Set(volumes.filter((name) => held.has(name)));
}

/** As {@link removeAll}, some time after it was created. */
export async function removeCreated(
  engine: Engine,
  created: CreatedResources,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const held = await heldVolumes(engine, created);
  const left = await removeAll(engine, { ...created, volumes: [...held] }, ctx);
  const unknown: string[] = [];
  for (const name of created.volumes.filter((volume) => !held.has(volume)))
    if (await hasVolume(engine, name)) unknown.push(name);
  return unknown.length === 0
    ? left
    : [
        ...left,
        `The volumes ${unknown.join(', ')} stay: whether they are still those it created is not known`,
      ];
}

/** Removes exactly what was created. Tries all, and says what is left. */
export async function removeAll(
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
  for (const name of volumes) await attempt(`The volume ${name}`, () => engine.getVolume(name).remove());
  for (const id of networks) await attempt('A network', () => engine.getNetwork(id).remove());
  return left;
}

function ignoreStopped(error: unknown): void {
  if (engineStatus(error) !== 304) throw error;
}
