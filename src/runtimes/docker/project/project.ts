import type { ContainerInfo, ContainerInspectInfo } from 'dockerode';
import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { z } from 'zod';
import { whenMissing } from '../../../disk/is-there.ts';
import { callOf, wholeCalls, type ComposeCall } from './project-files.ts';
import { answerLimit, engineError, engineStatus, type Engine } from '../engine/engine.ts';

/** Where a directory of a container comes from. */
export interface ContainerMount {
  readonly type: 'volume' | 'bind' | 'tmpfs' | 'other';
  /** The volume's name. */
  readonly volume?: string;
  /** The path on the Engine's machine; of a volume that its options make a directory of that machine, this directory. */
  readonly source: string;
  /** The path in the container. */
  readonly destination: string;
  readonly readOnly: boolean;
  /** A volume that is a directory of the machine by its options: the Engine does not create it. */
  readonly isDirectory?: true;
  /** A volume that the Engine mounts only while a container uses it. At other times `source` is an empty directory. */
  readonly onDemand?: true;
}

/** One container of a project, as the Engine describes it. */
export interface ProjectContainer {
  readonly id: string;
  readonly name: string;
  readonly service: string;
  /** As the Compose file names it, such as `postgres:15`. */
  readonly image: string;
  /** The content's digest, `sha256:…`. */
  readonly imageId: string;
  /** `unknown` while it restarts, and where the Engine does not tell. */
  readonly state: 'running' | 'stopped' | 'paused' | 'unknown';
  /** It ended by itself, successfully, and the Engine does not start it again: a job that is done looks like this. */
  readonly hasFinished?: boolean;
  /** Why nothing but its name, its image and its volumes is known of it. */
  readonly problem?: string;
  /** What the container's own health check says; undefined without one. */
  readonly health: 'starting' | 'healthy' | 'unhealthy' | undefined;
  readonly environment: Readonly<Record<string, string>>;
  /** Entrypoint and command. */
  readonly argv: readonly string[];
  readonly mounts: readonly ContainerMount[];
  /** Host ports by container port. */
  readonly publishedPorts: ReadonlyMap<number, { readonly host: string; readonly port: number }>;
  /** Ports the image or the Compose file exposes. */
  readonly exposedPorts: readonly number[];
  /** Its addresses in the networks it is in; empty while it does not run, and where it has the machine's network. */
  readonly addresses: readonly string[];
  readonly addresses6: readonly string[];
  /** Names of the networks that it is in, and whether its address there is fixed. */
  readonly networks?: ReadonlyMap<string, { readonly isFixed: boolean }>;
  /** Whether it has the network of the Engine's machine. */
  readonly hostNetwork: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** What `stop_grace_period` of the Compose file says, when it says something. */
  readonly stopGraceMs: number | undefined;
}

/** The containers of one Compose project. */
export interface Project {
  readonly name: string;
  readonly containers: readonly ProjectContainer[];
  /** Services that must run before the one named by the key. */
  readonly dependencies: ReadonlyMap<string, readonly string[]>;
  /** Absolute; empty when no container says. Without those that others include. */
  readonly composeFiles: readonly string[];
  /** Files of variables that Compose was given beside them. */
  readonly envFiles: readonly string[];
  /** Where relative paths of the first of them start. */
  readonly workingDir: string | undefined;
  /** Everywhere that Compose was run for it. */
  readonly workingDirs: readonly string[];
}

/** Labels both Compose 1 and 2 put on what they create (docker/compose, `pkg/api/labels.go`). */
export const composeLabels = {
  project: 'com.docker.compose.project',
  service: 'com.docker.compose.service',
  oneOff: 'com.docker.compose.oneoff',
  workingDir: 'com.docker.compose.project.working_dir',
  configFiles: 'com.docker.compose.project.config_files',
  environmentFile: 'com.docker.compose.project.environment_file',
  /** Since Compose 2: `postgres:service_healthy:false,redis:service_started:false`. */
  dependsOn: 'com.docker.compose.depends_on',
  volume: 'com.docker.compose.volume',
} as const;

/** Set by the operator to say which store a service is, and by the image of tars itself. */
export const serviceLabel = 'com.tars.service';

/** Containers of `docker compose run`, and that of tars, which captures the stack and is no part of it. */
const isBeside = (labels: Readonly<Record<string, string>>): boolean =>
  labels[composeLabels.oneOff]?.toLowerCase() === 'true' || labels[serviceLabel] === 'tars';

/** Reads the project's containers, running or not. One that goes away meanwhile is left out. */
export async function readProject(engine: Engine, name: string, signal?: AbortSignal): Promise<Project> {
  const what = `Cannot list the containers of the project ${name}`;
  try {
    const filters = { label: [`${composeLabels.project}=${name}`] };
    const limit = answerLimit(signal);
    const listed = (await engine.listContainers({ all: true, filters, ...limit })).filter(
      ({ Labels: labels }) => !isBeside(labels),
    );
    const described = await Promise.all(listed.map((info) => describeListed(engine, info, limit)));
    const found = described
      .filter((container) => container !== undefined)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const containers = await withVolumeOptions(engine, found, limit);
    const calls = containers.map(({ labels }) => composeCall(labels));
    const whole = await wholeCalls(calls);
    const composeFiles = distinct(whole.flatMap(({ files }) => files));
    return {
      ...{ name, containers, composeFiles },
      envFiles: distinct(whole.flatMap(({ envFiles }) => envFiles)),
      workingDir: whole[0]?.workingDir,
      workingDirs: distinct(calls.flatMap(({ workingDir }) => workingDir ?? [])),
      dependencies: await readDependencies(containers, composeFiles),
    };
  } catch (error) {
    throw engineError(error, what);
  }
}

/** The volumes that Compose created for a project, and where the Engine has them. */
export async function projectVolumes(
  engine: Engine,
  name: string,
): Promise<readonly { readonly name: string; readonly path: string }[]> {
  const filters = { label: [`${composeLabels.project}=${name}`] };
  try {
    const { Volumes: volumes } = await engine.listVolumes({ filters: JSON.stringify(filters) } as object);
    // None is null to the Engine, which the client's types do not say.
    return ((volumes as { Name: string; Mountpoint: string }[] | null) ?? []).map((volume) => ({
      name: volume.Name,
      path: volume.Mountpoint,
    }));
  } catch (error) {
    throw engineError(error, `Cannot list the volumes of the project ${name}`);
  }
}

/** Names of all Compose projects the Engine has containers of. */
export async function listProjects(engine: Engine): Promise<readonly string[]> {
  try {
    const filters = { label: [composeLabels.project] };
    const listed = await engine.listContainers({ all: true, filters, ...answerLimit() });
    return [...new Set(listed.flatMap(({ Labels: labels }) => labels[composeLabels.project] ?? []))].sort();
  } catch (error) {
    throw engineError(error, 'Cannot list the containers');
  }
}

/** One container as it is now; undefined when it is gone. */
export async function readContainer(
  engine: Engine,
  id: string,
  signal?: AbortSignal,
): Promise<ProjectContainer | undefined> {
  try {
    const info = await inspectIfThere(engine, id, answerLimit(signal));
    return info === undefined ? undefined : describeContainer(info);
  } catch (error) {
    throw engineError(error, `Cannot inspect the container ${id.slice(0, 12)}`);
  }
}

async function inspectIfThere(
  engine: Engine,
  id: string,
  limit: ReturnType<typeof answerLimit>,
): Promise<ContainerInspectInfo | undefined> {
  try {
    return await engine.getContainer(id).inspect(limit);
  } catch (error) {
    if (engineStatus(error) === 404) return undefined;
    throw error;
  }
}

/** One that the Engine lists and cannot describe is known by what the list says, so that it costs itself only. */
async function describeListed(
  engine: Engine,
  listed: ContainerInfo,
  limit: ReturnType<typeof answerLimit>,
): Promise<ProjectContainer | undefined> {
  try {
    const info = await inspectIfThere(engine, listed.Id, limit);
    return info === undefined ? undefined : describeContainer(info);
  } catch (error) {
    if (engineStatus(error) === undefined) throw error;
    const name = (listed.Names[0] ?? listed.Id).replace(/^\//, '');
    return {
      ...{ id: listed.Id, name, service: listed.Labels[composeLabels.service] ?? name },
      ...{ image: listed.Image, imageId: listed.ImageID, labels: listed.Labels },
      ...{ state: 'unknown', health: undefined, environment: {}, argv: [] },
      ...{ publishedPorts: new Map(), exposedPorts: [], addresses: [], addresses6: [] },
      ...{ hostNetwork: false, stopGraceMs: undefined },
      mounts: listed.Mounts.map(describeMount),
      problem: engineError(error, `Cannot inspect the container ${name}`).message,
    };
  }
}

function describeMount(mount: ContainerInfo['Mounts'][number]): ContainerMount {
  // Other drivers mount their volumes when a container starts, and let go of them when it ends.
  const isOnDemand = mount.Type === 'volume' && !['', 'local'].includes(mount.Driver ?? '');
  return {
    type: mountType(mount.Type),
    ...(mount.Name === undefined ? {} : { volume: mount.Name }),
    source: mount.Source,
    destination: mount.Destination,
    readOnly: !mount.RW,
    ...(isOnDemand ? { onDemand: true } : {}),
  };
}

/** Where the options of volumes lead, which containers do not tell. */
async function withVolumeOptions(
  engine: Engine,
  containers: readonly ProjectContainer[],
  limit: ReturnType<typeof answerLimit>,
): Promise<readonly ProjectContainer[]> {
  const names = new Set(
    containers.flatMap(({ mounts }) =>
      mounts.flatMap(({ volume, onDemand }) => (onDemand === true ? [] : (volume ?? []))),
    ),
  );
  const places = new Map(
    await Promise.all(
      [...names].map(async (name) => [name, await volumePlace(engine, name, limit)] as const),
    ),
  );
  return containers.map((container) => ({
    ...container,
    mounts: container.mounts.map((mount) => ({ ...mount, ...places.get(mount.volume ?? '') })),
  }));
}

const volumeOptionsSchema = z
  .object({ type: z.string().default(''), o: z.string().default(''), device: z.string().default('') })
  .nullish()
  .catch(undefined);

/** Of a volume of the Engine's own driver, which mounts what its options say (docker volume create, `--opt`). */
async function volumePlace(
  engine: Engine,
  name: string,
  limit: ReturnType<typeof answerLimit>,
): Promise<Pick<ContainerMount, 'source' | 'isDirectory'> | Pick<ContainerMount, 'onDemand'>> {
  const info = await engine
    .getVolume(name)
    .inspect(limit)
    .catch((error: unknown) => {
      // A volume that is gone or that cannot be described is the failure of whoever needs it.
      if (engineStatus(error) === undefined) throw error;
      return undefined;
    });
  const options = volumeOptionsSchema.parse(info?.Options);
  if (options == null || (options.type === '' && options.device === '')) return {};
  const isDirectory = options.o.split(',').some((option) => option === 'bind' || option === 'rbind');
  return isDirectory && options.device !== ''
    ? { source: options.device, isDirectory: true }
    : { onDemand: true };
}

function describeContainer(info: ContainerInspectInfo): ProjectContainer {
  const labels = info.Config.Labels;
  return {
    id: info.Id,
    name: info.Name.replace(/^\//, ''),
    service: labels[composeLabels.service] ?? info.Name.replace(/^\//, ''),
    image: info.Config.Image,
    imageId: info.Image,
    state: stateOf(info.State),
    hasFinished: hasFinished(info),
    health: healthOf(info.State.Health?.Status),
    environment: environmentOf(info.Config.Env),
    argv: [info.Path, ...info.Args],
    mounts: info.Mounts.map(describeMount),
    publishedPorts: publishedPortsOf(info),
    exposedPorts: Object.keys((info.Config.ExposedPorts as object | null | undefined) ?? {}).map((port) =>
      Number.parseInt(port, 10),
    ),
    addresses: Object.values(info.NetworkSettings.Networks)
      .map(({ IPAddress: address }) => address)
      .filter((address) => address !== ''),
    addresses6: Object.values(info.NetworkSettings.Networks)
      .map(({ GlobalIPv6Address: address }) => address)
      .filter((address) => address !== ''),
    networks: networksOf(info.NetworkSettings.Networks),
    hostNetwork: info.HostConfig.NetworkMode === 'host',
    labels,
    stopGraceMs: graceOf(info.Config),
  };
}

/** Config.StopTimeout, in seconds, which the client's types do not have. */
function graceOf(
  config: ContainerInspectInfo['Config'] & { StopTimeout?: number | null },
): number | undefined {
  return typeof config.StopTimeout === 'number' ? config.StopTimeout * 1000 : undefined;
}

function stateOf(state: ContainerInspectInfo['State']): ProjectContainer['state'] {
  if (state.Paused) return 'paused';
  if (state.Restarting) return 'unknown';
  return state.Running ? 'running' : 'stopped';
}

function networksOf(
  networks: ContainerInspectInfo['NetworkSettings']['Networks'],
): NonNullable<ProjectContainer['networks']> {
  const isFixed = (config: unknown): boolean =>
    addressConfigSchema.safeParse(config).data?.IPv4Address !== undefined ||
    addressConfigSchema.safeParse(config).data?.IPv6Address !== undefined;
  return new Map(
    Object.entries(networks).map(([name, { IPAMConfig: config }]) => [name, { isFixed: isFixed(config) }]),
  );
}

const addressConfigSchema = z.object({
  IPv4Address: z.string().min(1).optional(),
  IPv6Address: z.string().min(1).optional(),
});

function hasFinished({
  State: { Status: status, ExitCode: code },
  HostConfig,
}: ContainerInspectInfo): boolean {
  const policy = HostConfig.RestartPolicy?.Name ?? '';
  return status === 'exited' && code === 0 && ['', 'no', 'on-failure'].includes(policy);
}

function healthOf(status: string | undefined): ProjectContainer['health'] {
  return status === 'healthy' || status === 'unhealthy' || status === 'starting' ? status : undefined;
}

function mountType(type: string | undefined): ContainerMount['type'] {
  return type === 'volume' || type === 'bind' || type === 'tmpfs' ? type : 'other';
}

function environmentOf(entries: readonly string[] | null): Record<string, string> {
  return Object.fromEntries(
    (entries ?? []).map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

type PortBindings = Record<string, { readonly HostIp: string; readonly HostPort: string }[] | null>;

function publishedPortsOf(info: ContainerInspectInfo): ProjectContainer['publishedPorts'] {
  const ports = new Map<number, { host: string; port: number }>();
  const bindings = info.NetworkSettings.Ports as PortBindings | null;
  for (const [key, bound] of Object.entries(bindings ?? {})) {
    const first = bound?.find(({ HostPort: port }) => port !== '');
    if (first === undefined || !key.endsWith('/tcp')) continue;
    const everywhere = first.HostIp === '' || first.HostIp === '0.0.0.0' || first.HostIp === '::';
    ports.set(Number.parseInt(key, 10), {
      host: everywhere ? '127.0.0.1' : first.HostIp,
      port: Number(first.HostPort),
    });
  }
  return ports;
}

/** How Compose was called that made a container with these labels. */
export const composeCall = (labels: Readonly<Record<string, string | undefined>>): ComposeCall =>
  callOf({
    workingDir: labels[composeLabels.workingDir],
    files: labels[composeLabels.configFiles],
    envFiles: labels[composeLabels.environmentFile],
  });

const distinct = (values: readonly string[]): string[] => [...new Set(values)];

const composeFileSchema = z.object({
  services: z.record(
    z.string(),
    z.object({ depends_on: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).optional() }),
  ),
});

async function readDependencies(
  containers: readonly ProjectContainer[],
  composeFiles: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const dependencies = new Map<string, readonly string[]>();
  for (const { service, labels } of containers) {
    const label = labels[composeLabels.dependsOn];
    if (label === undefined || label === '') continue;
    dependencies.set(
      service,
      label.split(',').map((entry) => entry.split(':')[0] ?? ''),
    );
  }
  if (containers.some(({ labels }) => labels[composeLabels.dependsOn] !== undefined)) return dependencies;
  // Compose 1 leaves no such label; its file says it, where it is still there.
  for (const file of composeFiles) {
    const text = await readFile(file, 'utf8').catch(
      whenMissing(undefined, `Cannot read the dependencies of the services in ${file}`),
    );
    const parsed = composeFileSchema.safeParse(text === undefined ? undefined : parseYaml(text));
    if (!parsed.success) continue;
    for (const [service, { depends_on: dependsOn }] of Object.entries(parsed.data.services)) {
      if (dependsOn === undefined) continue;
      dependencies.set(service, Array.isArray(dependsOn) ? dependsOn : Object.keys(dependsOn));
    }
  }
  return dependencies;
}

function parseYaml(text: string): unknown {
  try {
    return parse(text, { merge: true });
  } catch {
    return undefined;
  }
}

/** All containers of a service, whatever their state. */
export function containersOf(project: Project, service: string): readonly ProjectContainer[] {
  return project.containers.filter((container) => container.service === service);
}
