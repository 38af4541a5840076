import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { posix } from 'node:path';
import { ConfigurationError, ServiceUnavailableError } from '../../../model/errors.ts';
import { isWithin } from '../../../model/captured-place.ts';
import type { Engine } from '../engine/engine.ts';
import { containersOf } from './project.ts';
import {
  listProjects,
  readProject,
  type ContainerMount,
  type Project,
  type ProjectContainer,
} from './project.ts';

/** Where a path of a container is, seen from the Engine's machine. */
export interface LocatedPath {
  readonly mount: ContainerMount;
  /** On the Engine's machine. */
  readonly hostPath: string;
  /** Whether this process may read and write there, whatever the state of the container. */
  readonly accessible: boolean;
}

/** The one container of a store's service. @throws when there is none, or several */
export async function storeContainer(
  engine: Engine,
  projectName: string,
  service: string,
): Promise<ProjectContainer> {
  const project = await readProject(engine, projectName);
  const containers = containersOf(project, service);
  const [container, second] = containers;
  if (container === undefined) throw await withoutContainer(engine, project, service);
  if (second !== undefined) {
    const list = containers.map(({ name, state }) => `${name} (${state})`).join(', ');
    throw new ConfigurationError(
      `${service} of the project ${projectName} has ${containers.length} containers, and tars cannot tell which holds the data: ${list}`,
      {
        hint: 'Remove the container that is left over: docker rm NAME. If the service is scaled, scale it to one.',
      },
    );
  }
  if (container.problem !== undefined)
    throw new ServiceUnavailableError(container.problem, { hint: unknownHint });
  return container;
}

/**
 * The container of a service in which a directory is looked up. Several are as good as one where all have the same
 * directory there. @throws as {@link storeContainer}
 */
export async function directoryContainer(
  engine: Engine,
  projectName: string,
  service: string,
  inside: string,
): Promise<ProjectContainer> {
  const containers = containersOf(await readProject(engine, projectName), service);
  const paths = await Promise.all(
    containers.map(async (container) => (await locatePath(container, inside))?.hostPath),
  );
  const [first] = paths;
  const isShared = first !== undefined && containers.length > 1 && paths.every((path) => path === first);
  const shown = containers.find(({ state }) => state === 'running') ?? containers[0];
  return isShared && shown !== undefined && shown.problem === undefined
    ? shown
    : storeContainer(engine, projectName, service);
}

/** Other services of the project that write to `hostPath`, or to something in it. */
export async function otherWriters(
  engine: Engine,
  projectName: string,
  service: string,
  hostPath: string,
): Promise<readonly string[]> {
  const { containers } = await readProject(engine, projectName);
  const writers = containers.filter(({ mounts }) =>
    mounts.some(
      ({ source, readOnly }) => !readOnly && (isWithin(source, hostPath) || isWithin(hostPath, source)),
    ),
  );
  return [...new Set(writers.map((container) => container.service))]
    .filter((name) => name !== service)
    .sort();
}

const unknownHint =
  'Inspect it with docker inspect. If it is broken, let Compose create it again (docker compose up -d).';

/** Names what exists instead, because a name may be misspelt. */
async function withoutContainer(
  engine: Engine,
  { name, containers }: Project,
  service: string,
): Promise<ServiceUnavailableError> {
  const there = [...new Set(containers.map((container) => container.service))].sort();
  if (there.length > 0) {
    return new ServiceUnavailableError(`The project ${name} has no container of ${service}`, {
      hint: `It has: ${there.join(', ')}. Correct service: in tars.yaml, or ${creating(name)}`,
    });
  }
  return new ServiceUnavailableError(
    `The Engine has no containers of the project ${name}, so none of ${service}`,
    { hint: await otherProjects(engine, name) },
  );
}

const creating = (project: string): string =>
  `create the containers: docker compose -p ${project} up --no-start`;

/** The error for a project of which nothing is there. */
export async function noSuchProject(engine: Engine, name: string): Promise<ConfigurationError> {
  const hint = await otherProjects(engine, name);
  return new ConfigurationError(`The Engine has no containers of the project ${name}`, { hint });
}

async function otherProjects(engine: Engine, name: string): Promise<string> {
  const projects = await listProjects(engine);
  return `It has the projects: ${projects.join(', ') || 'none'}. Correct docker.project in tars.yaml, or ${creating(name)}`;
}

/**
 * How to reach a port of the container: published on this machine, or in the container's own network; undefined
 * while it does not run, and where it shares the network of another container.
 */
export function addressOf(
  { state, publishedPorts, addresses, hostNetwork }: ProjectContainer,
  port: number,
): { readonly host: string; readonly port: number } | undefined {
  if (state !== 'running') return undefined;
  if (hostNetwork) return { host: '127.0.0.1', port };
  const published = publishedPorts.get(port);
  if (published !== undefined) return published;
  const [host] = addresses;
  return host === undefined ? undefined : { host, port };
}

/** Follows `path` out of the container through its mounts; undefined when it lies in none. */
export async function locatePath(
  { mounts }: ProjectContainer,
  path: string,
): Promise<LocatedPath | undefined> {
  const [mount] = mounts
    .filter(({ destination }) => path === destination || path.startsWith(`${destination}/`))
    .sort((a, b) => b.destination.length - a.destination.length);
  if (mount === undefined || mount.source === '') return undefined;
  const hostPath = posix.join(mount.source, posix.relative(mount.destination, path));
  const accessible =
    mount.onDemand !== true &&
    (await access(mount.source, constants.R_OK | constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    ));
  return { mount, hostPath, accessible };
}
