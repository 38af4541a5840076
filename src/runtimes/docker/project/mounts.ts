import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../../model/abort.ts';
import { isThere } from '../../../disk/is-there.ts';
import { requireMounted } from '../../../disk/mounts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { EngineAddress, ServiceMount, UnusedVolume } from '../../../ports/runtime.ts';
import type { Engine } from '../engine/engine.ts';
import { hasVolume } from '../provision/created.ts';
import { projectVolumes, type Project, type ProjectContainer } from './project.ts';

/** Beyond that, finding out a directory's size is not cheap any more. */
const entriesMax = 10_000;
const measureMaxMs = 2000;

/** A mount, with what the Engine says of it beside. */
export interface ProjectMount extends ServiceMount {
  readonly readOnly: boolean;
  /** The Engine mounts the volume only while a container uses it. */
  readonly onDemand?: true;
}

/** Volumes and directories that containers have from outside, once for each service. */
export function mountsOf(
  containers: readonly Pick<ProjectContainer, 'service' | 'mounts'>[],
  { host }: EngineAddress,
): readonly ProjectMount[] {
  const found = new Map<string, ProjectMount>();
  for (const { service, mounts } of containers) {
    for (const { type, volume, source: path, destination, readOnly, onDemand } of mounts) {
      if (type === 'tmpfs') continue;
      const mount: ProjectMount = {
        ...{ service, type, path, destination, readOnly },
        source: volume ?? path,
        ...(onDemand === undefined ? {} : { onDemand }),
        measure: measureAt(path, onDemand === true ? '' : host),
      };
      found.set(JSON.stringify([service, destination, path]), mount);
    }
  }
  return [...found.values()];
}

/** Volumes of the project that none of its containers has. @throws TarsError when the Engine does not say */
export async function unusedVolumes(
  engine: Engine,
  { name: project, containers }: Project,
  { host }: EngineAddress,
): Promise<readonly UnusedVolume[]> {
  const used = new Set(containers.flatMap(({ mounts }) => mounts.flatMap(({ volume }) => volume ?? [])));
  const volumes = await projectVolumes(engine, project);
  return volumes
    .filter(({ name }) => !used.has(name))
    .map(({ name, path }) => ({ name, path, measure: measureAt(path, host) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Whether neither the volume nor its directory exists; only where that can be seen from here. */
export async function isGone(
  engine: Engine,
  { type, source, path }: Omit<ServiceMount, 'measure'>,
): Promise<boolean> {
  if (type === 'volume') return !(await hasVolume(engine, source)) && !(await isThere(path));
  if (await isThere(path)) return false;
  await requireMounted(path);
  return isThere(dirname(path));
}

/** Where the Engine is on another machine, there is nothing to look at. */
const measureAt = (path: string, host: string): ServiceMount['measure'] => {
  const isHere = host.startsWith('unix:') || host.startsWith('/');
  return (ctx) => (isHere && path !== '' ? sizeOf(path, ctx) : Promise.resolve(undefined));
};

/** Bytes of all files at and below `path`; undefined when they are many, slow to count or not to be looked at. */
async function sizeOf(path: string, { signal, clock }: OperationContext): Promise<number | undefined> {
  const endMs = clock.monotonicMs() + measureMaxMs;
  const queue = [path];
  let entries = 0;
  let sizeBytes = 0;
  try {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      throwIfAborted(signal);
      if (++entries > entriesMax || clock.monotonicMs() > endMs) return undefined;
      const stats = await lstat(next);
      if (stats.isFile()) sizeBytes += stats.size;
      else if (stats.isDirectory()) {
        const names = await readdir(next);
        if (entries + queue.length + names.length > entriesMax) return undefined;
        for (const name of names) queue.push(join(next, name));
      }
    }
    return sizeBytes;
  } catch {
    throwIfAborted(signal);
    return undefined;
  }
}
