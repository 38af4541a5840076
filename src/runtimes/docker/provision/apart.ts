import { statIfThere } from '../../../disk/is-there.ts';
import { RestoreRefusedError } from '../../../model/errors.ts';
import type { ComposeModel, ComposeService } from '../compose/compose-model.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { composeLabels, readProject, type Project } from '../project/project.ts';

/**
 * Makes sure that a project can live beside `first` without touching it: nothing it would write to, listen on or be
 * called by is somebody else's.
 * @throws RestoreRefusedError naming everything both would share
 */
export async function requireApart(
  engine: Engine,
  model: ComposeModel,
  project: string,
  firstName: string,
  firstVolumes: readonly string[],
): Promise<void> {
  const first = await readProject(engine, firstName);
  const services = [...model.services.values()].filter(({ optional }) => !optional);
  const conflicts = [
    ...sharedVolumes(services, model, first, firstVolumes),
    ...mountedAlready(await readProject(engine, project), first),
    ...(await sharedDirectories(services, model, first)),
    ...sharedNetworks(services, model, await networksOf(engine, first)),
    ...(await takenNames(engine, services, project)),
    ...(await takenPorts(engine, services, project)),
  ];
  if (conflicts.length === 0) return;
  throw new RestoreRefusedError(
    `The project ${project} would share resources with ${firstName}: ${conflicts.join('; ')}`,
    {
      hint: 'Give a Compose file with separate names, ports and volumes: --compose-file, once for each file, with the overriding file last.',
    },
  );
}

function sharedVolumes(
  services: readonly ComposeService[],
  model: ComposeModel,
  first: Project,
  recorded: readonly string[],
): string[] {
  const theirs = new Set([
    ...recorded,
    ...first.containers.flatMap(({ mounts }) => mounts.map((m) => m.volume)),
  ]);
  const shared = new Map<string, string>();
  for (const service of services) {
    for (const { type, source } of service.mounts) {
      const volume = type === 'volume' ? model.volumes.get(source) : undefined;
      if (volume === undefined || !theirs.has(volume.name)) continue;
      const kind = volume.external ? 'external volume' : 'volume';
      shared.set(
        volume.name,
        `${service.name} mounts the ${kind} ${volume.name}, which belongs to ${first.name}`,
      );
    }
  }
  return [...shared.values()];
}

/** Containers that the other project has already may mount what no file says. */
function mountedAlready({ containers }: Project, first: Project): string[] {
  const theirs = new Set(first.containers.flatMap(({ mounts }) => mounts.flatMap((m) => m.volume ?? [])));
  return containers.flatMap(({ name, mounts }) =>
    mounts
      .filter(({ volume }) => volume !== undefined && theirs.has(volume))
      .map(
        ({ volume }) =>
          `its container ${name} mounts the volume ${volume ?? ''}, which belongs to ${first.name}`,
      ),
  );
}

/** What both only read does no harm; neither does a socket. */
async function sharedDirectories(
  services: readonly ComposeService[],
  model: ComposeModel,
  first: Project,
): Promise<string[]> {
  const theirs = first.containers.flatMap(({ mounts }) =>
    mounts.filter(({ type, isDirectory }) => type === 'bind' || isDirectory === true),
  );
  const conflicts: string[] = [];
  for (const { name, mounts } of services) {
    for (const { type, source: given, readOnly } of mounts) {
      const source = type === 'bind' ? given : model.volumes.get(given)?.device;
      if (source === undefined || readOnly) continue;
      if (!theirs.some((mount) => overlaps(mount.source, source))) continue;
      const stats = await statIfThere(source);
      if (stats?.isDirectory() !== true && stats?.isFile() !== true) continue;
      conflicts.push(`${name} writes to ${source}, which ${first.name} mounts too`);
    }
  }
  return conflicts;
}

const overlaps = (a: string, b: string): boolean => a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`);

async function networksOf(engine: Engine, { containers }: Project): Promise<ReadonlySet<string>> {
  const listed = await engine.listContainers({ all: true }).catch((error: unknown) => {
    throw engineError(error, 'Cannot list the containers');
  });
  const ids = new Set(containers.map(({ id }) => id));
  return new Set(
    listed
      .filter(({ Id: id }) => ids.has(id))
      .flatMap(({ NetworkSettings: settings }) => Object.keys(settings.Networks)),
  );
}

/** In one network a name such as `postgres` would be answered by either. */
function sharedNetworks(
  services: readonly ComposeService[],
  model: ComposeModel,
  theirs: ReadonlySet<string>,
): string[] {
  const keys = new Set(services.flatMap(({ networks }) => networks));
  return [...keys].flatMap((key) => {
    const name = model.networks.get(key)?.name;
    return name !== undefined && theirs.has(name)
      ? [`its services would be in the network ${name} beside services of the same names`]
      : [];
  });
}

async function takenNames(
  engine: Engine,
  services: readonly ComposeService[],
  project: string,
): Promise<string[]> {
  const named = services.filter(({ containerName }) => containerName !== undefined);
  if (named.length === 0) return [];
  const others = (await listOthers(engine, project)).flatMap(({ Names: names }) => names);
  return named
    .filter(({ containerName }) => others.includes(`/${containerName ?? ''}`))
    .map(({ name, containerName }) => `container_name of ${name} is ${containerName ?? ''}, which is taken`);
}

async function takenPorts(
  engine: Engine,
  services: readonly ComposeService[],
  project: string,
): Promise<string[]> {
  const others = await listOthers(engine, project);
  return services.flatMap(({ name, publishedPorts }) =>
    publishedPorts.flatMap((port) => {
      const holder = others.find(({ Ports: ports }) => ports.some(({ PublicPort: taken }) => taken === port));
      const by = holder?.Names[0]?.replace(/^\//, '');
      return by === undefined ? [] : [`port ${port} of ${name} is taken by ${by}`];
    }),
  );
}

async function listOthers(engine: Engine, project: string) {
  try {
    const listed = await engine.listContainers({ all: true });
    return listed.filter(({ Labels: labels }) => labels[composeLabels.project] !== project);
  } catch (error) {
    throw engineError(error, 'Cannot list the containers');
  }
}
