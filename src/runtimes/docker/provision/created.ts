import { rmdir } from 'node:fs/promises';
import { z } from 'zod';
import { isMissing } from '../../../disk/is-there.ts';
import { hasErrno, toTarsError } from '../../../model/errors.ts';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { CreatedResources, ExistingResources } from '../../../ports/provisioner.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';
import { composeLabels, projectVolumes, readProject } from '../project/project.ts';

/** What there is of a project now. @throws TarsError when the Engine does not say */
export async function existing(engine: Engine, project: string): Promise<ExistingResources> {
  const { containers } = await readProject(engine, project);
  try {
    const volumes = (await engine.listVolumes()).Volumes as { Name: string }[] | null;
    return {
      containers: containers.map(({ id }) => id),
      volumes: (volumes ?? []).map(({ Name: name }) => name),
      networks: await networkIds(engine, project),
    };
  } catch (error) {
    throw engineError(error, 'Cannot list the volumes');
  }
}

/** What the project has now and had not `before`. */
export async function createdSince(
  engine: Engine,
  project: string,
  before: ExistingResources,
): Promise<CreatedResources> {
  const containers = (await readProject(engine, project)).containers.filter(
    ({ id }) => !before.containers.includes(id),
  );
  const names = new Set(containers.flatMap(({ mounts }) => mounts.flatMap(({ volume }) => volume ?? [])));
  for (const { name } of await projectVolumes(engine, project)) names.add(name);
  const volumes = [...names].filter((name) => !before.volumes.includes(name));
  const isNew = (name: string | undefined): boolean => name !== undefined && volumes.includes(name);
  return {
    containers: containers.map(({ id, service, mounts }) => ({
      ...{ id, service },
      empty: mounts.every(({ type, volume, readOnly }) =>
        type === 'volume' ? isNew(volume) : type === 'tmpfs' || readOnly,
      ),
    })),
    volumes,
    networks: (await networkIds(engine, project)).filter((id) => !before.networks.includes(id)),
  };
}

async function networkIds(engine: Engine, project: string): Promise<string[]> {
  const filters = { label: [`${composeLabels.project}=${project}`] };
  return (await engine.listNetworks({ filters })).map(({ Id: id }) => id);
}

/** Whether the Engine has a volume of that name. */
export async function hasVolume(engine: Engine, name: string): Promise<boolean> {
  try {
    await engine.getVolume(name).inspect();
    return true;
  } catch (error) {
    if (engineStatus(error) === 404) return false;
    throw engineError(error, `Cannot inspect the volume ${name}`);
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
  // Not the restore's to remove any more, and in nobody's way: the next one uses them.
  if (unknown.length > 0)
    ctx.log.warn(
      `The volumes ${unknown.join(', ')} stay, because it is unknown whether the restore created them`,
    );
  return left;
}

/** As {@link removeAll}, for what is there now and was not `before`, unless somebody has used it since. */
export async function removeSince(
  engine: Engine,
  project: string,
  before: ExistingResources,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const created = await createdSince(engine, project, before);
  const idle = new Set((await neverStarted(engine, project)).map(({ id }) => id));
  const started = created.containers.filter(({ id }) => !idle.has(id)).map(({ service }) => service);
  if (started.length > 0) {
    ctx.log.warn(`What the restore created stays, because it is in use: ${started.join(', ')} was started`);
    return [];
  }
  const volumes = created.volumes.length === 0 ? [] : await emptyVolumes(engine, created.volumes);
  const left = await removeAll(engine, { ...created, volumes }, ctx);
  const filled = created.volumes.filter((name) => !volumes.includes(name));
  if (filled.length > 0) ctx.log.warn(`The volumes ${filled.join(', ')} stay, because they hold data`);
  return left;
}

/** Containers of the project that were created and nothing else. */
export async function neverStarted(
  engine: Engine,
  project: string,
): Promise<readonly { readonly id: string; readonly service: string | undefined }[]> {
  const label = [`${composeLabels.project}=${project}`];
  try {
    const found = await engine.listContainers({ all: true, filters: { label, status: ['created'] } });
    return found.map(({ Id: id, Labels: labels }) => ({ id, service: labels[composeLabels.service] }));
  } catch (error) {
    throw engineError(error, `Cannot list the containers of the project ${project}`);
  }
}

const diskUseSchema = z.object({
  Volumes: z
    .array(z.object({ Name: z.string(), UsageData: z.object({ Size: z.number() }).nullish() }))
    .nullish(),
});

/** Those of the volumes that hold no data, as the Engine measures them; of other drivers it knows nothing. */
async function emptyVolumes(engine: Engine, names: readonly string[]): Promise<readonly string[]> {
  try {
    const { Volumes: volumes } = diskUseSchema.parse(await engine.df());
    return (volumes ?? [])
      .filter(({ Name: name, UsageData: usage }) => names.includes(name) && usage?.Size === 0)
      .map(({ Name: name }) => name);
  } catch (error) {
    throw engineError(error, 'Cannot find out which volumes are empty');
  }
}

/** Removes exactly what was created. Tries all, and says what is left. */
export async function removeAll(
  engine: Engine,
  { containers, volumes, networks, directories = [] }: CreatedResources,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    throwIfAborted(ctx.signal);
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
  for (const path of [...directories].reverse()) {
    // Someone may have put something there.
    await rmdir(path).catch((error: unknown) => {
      if (!isMissing(error) && !hasErrno(error, 'ENOTEMPTY'))
        left.push(toTarsError(error, `The directory ${path} could not be removed`).message);
    });
  }
  return left;
}

function ignoreStopped(error: unknown): void {
  if (engineStatus(error) !== 304) throw error;
}
