import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { statIfThere } from '../../../disk/is-there.ts';
import { ConfigurationError, messageOf } from '../../../model/errors.ts';
import { coveredPaths, isWithin, type CapturedPlace } from '../../../model/captured-place.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { FoundFile, FoundStore, FoundWriter } from '../../../ports/inventory.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import { questionTo, whatAnswers } from './answers.ts';
import { dataDirectory } from './data-directory.ts';
import type { DefinedService } from '../compose/definition-service.ts';
import type { Definition } from '../compose/definition.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { mountsOf, type ProjectMount } from '../project/mounts.ts';
import { locatePath } from '../project/places.ts';
import { composeCall, composeLabels, type Project, type ProjectContainer } from '../project/project.ts';
import { reasonNoStore, recognise, runsServer, type StoreTraits } from './recognise.ts';

/** A service as its container or, where there is none, the Compose file describes it. */
export interface SketchedService extends Omit<DefinedService, 'containerName' | 'mounts'> {
  /** Names under which other services reach it. */
  readonly hostNames: readonly string[];
  readonly mounts: readonly ProjectMount[];
  readonly container: ProjectContainer | undefined;
}

/** A store with what its component will capture. */
export interface SketchedStore extends FoundStore {
  readonly data: CapturedPlace;
}

/** The services of a project with containers; `definition` adds what containers do not tell. */
export function sketchContainers(
  { containers, dependencies }: Project,
  address: EngineAddress,
  definition: Definition | undefined,
): readonly SketchedService[] {
  const mounts = mountsOf(containers, address);
  const services = [...new Set(containers.map(({ service }) => service))];
  return services.flatMap((service) => {
    const [container] = containers.filter((candidate) => candidate.service === service);
    if (container === undefined) return [];
    const { image, labels, environment, exposedPorts, argv, name } = container;
    return [
      {
        ...{ service, image, labels, environment, exposedPorts, argv, container },
        buildDirectory: definition?.services.get(service)?.buildDirectory,
        hostNames: [service, name],
        dependsOn: dependencies.get(service) ?? [],
        mounts: mounts.filter((mount) => mount.service === service),
      },
    ];
  });
}

/** The services of Compose files whose project has no containers. */
export function sketchDefinition(
  services: Iterable<DefinedService>,
  address: EngineAddress,
): readonly SketchedService[] {
  return [...services].map(({ containerName, mounts, ...service }) => {
    const described = mounts.map(({ type, source, destination, readOnly }) => ({
      ...{ type, destination, readOnly },
      // Where a volume will be is not known yet; its name is as good to compare.
      ...(type === 'volume' ? { volume: source, source: `volume:${source}` } : { source }),
    }));
    return {
      ...service,
      hostNames: [service.service, ...(containerName === undefined ? [] : [containerName])],
      mounts: mountsOf([{ service: service.service, mounts: described }], address),
      container: undefined,
    };
  });
}

/** Which services are stores, and why some that look like one are not. */
export interface FoundRoles {
  /** In the order of the services. */
  readonly stores: readonly SketchedStore[];
  /** For a person. */
  readonly notes: readonly string[];
}

/** The stores among the services. */
export async function findStores(
  engine: Engine | undefined,
  services: readonly SketchedService[],
  kinds: readonly StoreTraits[],
  ctx: OperationContext,
): Promise<FoundRoles> {
  const judged = await Promise.all(
    services.map(async (sketch) => ({ sketch, role: await judgeRole(sketch, kinds, ctx) })),
  );
  const stores = judged.flatMap(({ sketch, role }) =>
    role === undefined || 'why' in role ? [] : [{ sketch, role }],
  );
  // A job that prepares a store has the store's data too.
  const jobs = stores.filter(
    (each) => !isServer(each) && stores.some((other) => isServer(other) && haveSameData(each, other)),
  );
  const reasons = [
    ...judged.flatMap(({ sketch: { service }, role }) =>
      role !== undefined && 'why' in role ? [`${service} ${role.why}`] : [],
    ),
    ...jobs.map(({ sketch: { service } }) => `${service} has the data of a service that runs the server`),
  ];
  const real = stores.filter((each) => !jobs.includes(each));
  return {
    stores: await Promise.all(real.map(({ sketch, role }) => describeStore(engine, role, sketch, ctx))),
    notes: reasons.map((reason) => `${reason}. It is not captured as a store`),
  };
}

interface JudgedStore {
  readonly sketch: SketchedService;
  readonly role: StoreRole;
}

const isServer = ({ sketch, role }: JudgedStore): boolean =>
  role.by === 'label' || runsServer(sketch, role.store);

function haveSameData(one: JudgedStore, other: JudgedStore): boolean {
  const [path, otherPath] = [one, other].map(({ sketch: { service, mounts, ...sketch }, role }) => {
    const place = { store: role.store.expectedDirectory(sketch), service };
    return coveredPaths(place, mounts)[0];
  });
  return path !== undefined && path === otherPath;
}

interface StoreRole {
  readonly store: StoreTraits;
  readonly by: 'label' | 'image' | 'port' | 'answer';
}

/** What a service is, by what it says and, where that leaves it open, by what answers; undefined for no store. */
async function judgeRole(
  sketch: SketchedService,
  kinds: readonly StoreTraits[],
  { signal }: OperationContext,
): Promise<StoreRole | { readonly why: string } | undefined> {
  const { container } = sketch;
  const told = recognise({ ...sketch, hasFinished: container?.hasFinished }, kinds);
  if (told?.store === 'none') return told.why === undefined ? undefined : { why: told.why };
  if (told !== undefined && told.store !== 'unknown') return told;
  if (container?.state !== 'running') return undefined;
  const store = await whatAnswers(container, kinds, signal);
  if (store === undefined) return undefined;
  const why = reasonNoStore(sketch, store);
  return why === undefined ? { store, by: 'answer' } : { why };
}

async function describeStore(
  engine: Engine | undefined,
  { store, by }: StoreRole,
  sketch: SketchedService,
  ctx: OperationContext,
): Promise<SketchedStore> {
  const { service, image } = sketch;
  const how = {
    label: 'by its label com.tars.service',
    image: `by its image ${image}`,
    port: `by its port ${store.port} alone`,
    answer: `by what answers on its port ${store.port}`,
  }[by];
  const place = await placeOf(engine, store, sketch);
  const port = portOf(store, sketch);
  const found = {
    ...{ service, kind: store.kind, how, port, tls: store.isTlsOnly?.(sketch) === true },
    ...(await passwordOf(store, sketch, port ?? store.port, ctx)),
    ...place,
  };
  return {
    ...found,
    riskIfUnmounted: store.riskIfUnmounted,
    proposal: store.proposal?.(found) ?? [],
  };
}

async function placeOf(
  engine: Engine | undefined,
  store: StoreTraits,
  sketch: SketchedService,
): Promise<Pick<SketchedStore, 'warning' | 'data'>> {
  const { service, container } = sketch;
  let directory: string;
  try {
    directory =
      engine !== undefined && container !== undefined
        ? await dataDirectory(engine, store, container)
        : store.expectedDirectory(sketch);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    return { warning: error.message, data: { store: '', service } };
  }
  const warning = isMounted(sketch, directory)
    ? undefined
    : `keeps its data in ${directory} inside its container, where nothing is mounted: mount a volume there`;
  return { warning, data: { store: directory, service } };
}

const isMounted = ({ mounts }: SketchedService, directory: string): boolean =>
  mounts.some(({ destination }) => isWithin(directory, destination));

function portOf(store: StoreTraits, sketch: SketchedService): number | undefined {
  const port = Number(store.toldPort?.(sketch));
  return Number.isInteger(port) && port > 0 && port !== store.port ? port : undefined;
}

async function passwordOf(
  store: StoreTraits,
  sketch: SketchedService,
  port: number,
  { signal }: OperationContext,
): Promise<Pick<FoundStore, 'password' | 'passwordFile'>> {
  const { container } = sketch;
  const told = (await store.password?.(sketch, questionTo(container, port, signal))) ?? 'none';
  if (typeof told === 'string') return { password: told, passwordFile: undefined };
  const located = container === undefined ? undefined : await locatePath(container, told.file);
  return located === undefined
    ? { password: told.otherwise, passwordFile: undefined }
    : { password: 'file', passwordFile: located.hostPath };
}

/** Services that depend on stores, or are told where one is. */
export function findWriters(
  services: readonly SketchedService[],
  stores: readonly Pick<FoundStore, 'service'>[],
): readonly FoundWriter[] {
  const isStore = new Set(stores.map(({ service }) => service));
  const hosts = services
    .filter(({ service }) => isStore.has(service))
    .flatMap(({ service, hostNames }) =>
      hostNames.map((name) => ({ service, pattern: addressPattern(name) })),
    );
  return services.flatMap(({ service, dependsOn, environment, argv }) => {
    if (isStore.has(service)) return [];
    const needed = dependsOn.filter((name) => isStore.has(name));
    const texts = [...Object.values(environment), ...argv];
    const told = hosts
      .filter(({ pattern }) => texts.some((text) => pattern.test(text)))
      .map((host) => host.service);
    const onlyTold = [...new Set(told)].filter((name) => !needed.includes(name));
    const reasons = [
      ...(needed.length > 0 ? [`depends on ${needed.join(', ')}`] : []),
      ...(onlyTold.length > 0 ? [`is told the address of ${onlyTold.join(', ')}`] : []),
    ];
    return reasons.length === 0 ? [] : [{ service, why: reasons.join(' and ') }];
  });
}

/** `name` as a host: alone, in a URL with or without user, before a port. A URL's scheme is none. */
function addressPattern(name: string): RegExp {
  const literal = name.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`(?:^|[@,=\\s]|//)${literal}(?:$|:\\d|[/,\\s?])`);
}

/** Settings of the machine that many containers are given. */
const systemFiles =
  /^\/(etc\/(localtime|timezone|hosts|hostname|resolv\.conf|passwd|group|shadow)$|etc\/(ssl|pki)\/|usr\/|proc\/|sys\/|dev\/|run\/|var\/run\/)/;
/** Configuration is text that people write. */
const fileBytesMax = 4 << 20;

/**
 * The files the project consists of: those of Compose, those they mention, single files that are mounted.
 * @param optional left out without a word where they are not there
 */
export async function findFiles(
  services: readonly SketchedService[],
  mentioned: readonly string[],
  optional: readonly string[],
): Promise<readonly FoundFile[]> {
  const mounted = services.flatMap(({ mounts }) =>
    mounts.filter(({ type, path }) => type === 'bind' && !systemFiles.test(path)).map(({ path }) => path),
  );
  const found: FoundFile[] = [];
  const required = new Set(mentioned);
  for (const path of new Set([...mentioned, ...optional, ...mounted])) {
    let stats;
    try {
      stats = await statIfThere(path);
    } catch (error) {
      // It may be a file of the project all the same.
      found.push({ path, problem: `is not captured: ${messageOf(error)}` });
      continue;
    }
    if (stats === undefined) {
      if (required.has(path)) found.push({ path, problem: 'is not there' });
    } else if (!stats.isFile()) {
      if (required.has(path)) found.push({ path, problem: 'is no single file' });
    } else if (stats.size > fileBytesMax) {
      found.push({ path, problem: 'is too large for configuration' });
    } else {
      const readable = await access(path, constants.R_OK).then(
        () => true,
        () => false,
      );
      found.push({ path, problem: readable ? undefined : 'cannot be read by this user' });
    }
  }
  return found;
}

/** Projects with containers that were made from that Compose file. */
export async function projectsOf(engine: Engine, composeFile: string): Promise<readonly string[]> {
  try {
    const listed = await engine.listContainers({
      all: true,
      filters: { label: [composeLabels.configFiles] },
    });
    const made = listed.filter(({ Labels: labels }) => composeCall(labels).files.includes(composeFile));
    return [...new Set(made.flatMap(({ Labels: labels }) => labels[composeLabels.project] ?? []))].sort();
  } catch (error) {
    throw engineError(error, 'Cannot list the containers');
  }
}
