import { createAtRiskComponent, createCaptureOnlyComponent } from '../components/wrappers/at-risk.ts';
import { createPlacedComponent } from '../components/remote/placed.ts';
import {
  ConfigurationError,
  RestoreRefusedError,
  ServiceUnavailableError,
  TarsError,
} from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { CapturedPlace } from '../model/captured-place.ts';
import type { OperationContext } from '../ports/context.ts';
import type { ConfiguredComponent, ConfiguredContainer } from '../ports/kind.ts';
import type { Provisioner } from '../ports/provisioner.ts';
import type { EngineAddress, Runtime } from '../ports/runtime.ts';
import type { DerivedContent, ServerContainer, StorePlace } from '../ports/store-place.ts';
import { dataDirectory, notMounted } from '../runtimes/docker/discovery/data-directory.ts';
import { findProjectPlaces, type ProjectPlaces } from '../runtimes/docker/discovery/project-places.ts';
import {
  unheldSecrets as findUnheldSecrets,
  type HeldSecrets,
} from '../runtimes/docker/discovery/unheld-secrets.ts';
import { connectEngine, findEngine, type Engine } from '../runtimes/docker/engine/engine.ts';
import { containerRunner } from '../runtimes/docker/engine/exec.ts';
import { createDockerRuntime } from '../runtimes/docker/index.ts';
import {
  addressOf,
  directoryContainer,
  locatePath,
  otherWriters,
  storeContainer,
  type LocatedPath,
} from '../runtimes/docker/project/places.ts';
import { readProject, type ProjectContainer } from '../runtimes/docker/project/project.ts';
import { createDockerProvisioner } from '../runtimes/docker/provision/provision.ts';
import { shellFileName, shellFileText } from '../runtimes/docker/compose/shell-file.ts';
import { createServerProof } from '../runtimes/docker/server-proof.ts';
import { createContainerHold } from '../runtimes/docker/volume/volume-hold.ts';
import { createDockerVolume } from '../runtimes/docker/volume/volume.ts';
import { isVisible } from '../disk/is-there.ts';
import { kinds } from '../components/registry.ts';
import { recognise, storeTraits } from '../runtimes/docker/discovery/recognise.ts';
import { createGuardian } from '../runtimes/guardian/index.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import type { DockerSettings } from '../settings/schema.ts';
import { composeComponent, servicesOfStores, type StackOverrides, type StackContext } from './components.ts';

/** A component that is a store in a container of its own. */
interface ContainedStore {
  readonly name: string;
  readonly component: ConfiguredComponent;
  readonly access: ConfiguredContainer;
  readonly service: string;
}

/** The stores of one Compose project. */
export class DockerStack {
  readonly #engine: Engine;
  readonly #address: EngineAddress;
  readonly #project: string;
  readonly runtime: Runtime;
  readonly provisioner: Provisioner;

  private constructor(
    engine: Engine,
    address: EngineAddress,
    project: string,
    runtime: Runtime,
    provisioner: Provisioner,
  ) {
    this.#engine = engine;
    this.#address = address;
    this.#project = project;
    this.runtime = runtime;
    this.provisioner = provisioner;
  }

  /** Connects to nothing yet. @throws ConfigurationError when the Engine's address is wrong */
  static async open(
    { host, project, compose_files: composeFiles, env_files: envFiles }: DockerSettings,
    { services, components }: Pick<Settings, 'services' | 'components'>,
    env: Environment,
    { apartFrom, beside }: StackOverrides,
  ): Promise<DockerStack> {
    const address = await findEngine(host, env);
    const engine = await connectEngine(address);
    const declared = Object.entries(services).map(
      ([name, { writer, depends_on: dependsOn, stop_timeout_ms: stopTimeoutMs }]) =>
        [name, { writer, dependsOn, stopTimeoutMs }] as const,
    );
    const runtime = createDockerRuntime({
      ...{
        engine,
        address,
        project,
        services: new Map(declared),
        stores: servicesOfStores(beside ?? components),
        kinds: storeTraits(kinds),
      },
    });
    const stores = new Set(Object.values(components).flatMap(({ service }) => service ?? []));
    const provisioner = createDockerProvisioner({
      ...{ engine, address, project, composeFiles, envFiles, stores, apartFrom },
    });
    return new DockerStack(engine, address, project, runtime, provisioner);
  }

  /** `component` in its container, wherever that is at the time of each call. */
  async component(
    name: string,
    component: ConfiguredComponent,
    stack: StackContext,
    password: string | undefined,
  ): Promise<Component> {
    const { service, container: access, configuration, places } = component;
    if (configuration !== undefined)
      return composeComponent(name, component, stack, this.#shellFileOf(name, stack));
    if (access === undefined && places.inside === undefined)
      return composeComponent(name, component, stack, { password });
    if (service === undefined) {
      throw new ConfigurationError(`Component ${name} does not say which service of ${this.#project} it is`, {
        hint: `Add service: to components.${name} in tars.yaml.`,
      });
    }
    return access === undefined
      ? this.#directory(name, component, service, stack)
      : this.#store({ name, component, access, service }, stack, password);
  }

  #store(store: ContainedStore, stack: StackContext, password: string | undefined): Component {
    const { name, component, access, service } = store;
    return createPlacedComponent({
      ...{ name, kind: component.kind, service },
      places: () => this.#placesOf(store),
      where: () => this.#whereIs(service),
      locate: async (needsService) => {
        const container = await storeContainer(this.#engine, this.#project, service);
        if ((needsService || access.through === 'server') && container.state !== 'running')
          throw this.#notRunning(container);
        const place = await this.#placeOf(store, container, password);
        const composed = await composeComponent(name, component, stack, {
          ...place,
          password: password ?? place.password,
        });
        if (place.atRisk === undefined) return composed;
        return createAtRiskComponent(composed, place.atRisk, {
          canRestore: access.unmounted === 'capture and restore',
        });
      },
    });
  }

  /** One component keeps it: the first with configuration. */
  #shellFileOf(name: string, { settings, overrides }: StackContext): Pick<StorePlace, 'derived'> {
    const components = Object.entries(overrides.beside ?? settings.components);
    if (components.find(([, { configuration }]) => configuration !== undefined)?.[0] !== name) return {};
    const read = async (ctx: OperationContext): Promise<DerivedContent | undefined> => {
      const { directory, variables } = await this.provisioner.shellVariables(ctx);
      const text = shellFileText(variables);
      if (directory === undefined || text === undefined) return undefined;
      const names = variables.filter(({ value }) => value !== undefined).map((variable) => variable.name);
      return { directory, names, text };
    };
    return { derived: { fileName: shellFileName, read } };
  }

  /** A directory of a container, which need not run. */
  #directory(name: string, component: ConfiguredComponent, service: string, stack: StackContext): Component {
    const { path: inside, isWhole } = component.places.inside ?? { path: '/', isWhole: true };
    const find = async (): Promise<{ container: ProjectContainer; located: LocatedPath }> => {
      const container = await directoryContainer(this.#engine, this.#project, service, inside);
      const located = await locatePath(container, inside);
      if (located !== undefined) return { container, located };
      throw new ConfigurationError(`Nothing is mounted at ${inside} of ${service}`, {
        hint: `Mount a volume there, or correct inside: of ${name} in tars.yaml.`,
      });
    };
    return createPlacedComponent({
      ...{ name, kind: component.kind, service, precaptures: true },
      // By its path on the machine: what else is mounted below it in the container lies elsewhere.
      places: async () => (isWhole ? [{ tree: (await find()).located.hostPath }] : []),
      where: async () => (await find()).located.hostPath,
      locate: async () => {
        const { container, located } = await find();
        const { mount, hostPath, accessible } = located;
        if (mount.onDemand === true) {
          const problem = onDemandProblem(name, mount.volume ?? '', container);
          if (container.state === 'stopped') throw problem;
          const composed = await composeComponent(name, component, stack, { path: hostPath });
          return createCaptureOnlyComponent(composed, problem);
        }
        if (!accessible) throw await inaccessible(mount.source, container);
        const sharedWith = await otherWriters(this.#engine, this.#project, service, hostPath);
        return composeComponent(name, component, stack, { path: hostPath, sharedWith });
      },
    });
  }

  /** What the project's services keep that nothing of `captured` does, as far as there are containers. */
  async findPlaces(
    captured: readonly CapturedPlace[],
    leaveOut: readonly CapturedPlace[],
    ctx: OperationContext,
  ): Promise<ProjectPlaces> {
    const project = await readProject(this.#engine, this.#project);
    const question = { captured, leaveOut, kinds: storeTraits(kinds) };
    return findProjectPlaces(this.#engine, this.#address, project, question, ctx);
  }

  /** Keys and passwords that nothing of `held` has; see {@link findUnheldSecrets}. */
  async unheldSecrets(held: Omit<HeldSecrets, 'values'>, ctx: OperationContext): Promise<readonly string[]> {
    const project = await readProject(this.#engine, this.#project);
    // What only a shell had is captured with the configuration.
    const { variables } = await this.provisioner.shellVariables(ctx);
    const values = new Set(variables.flatMap(({ value }) => value ?? []));
    return findUnheldSecrets(this.#engine, this.#address, project, { ...held, values });
  }

  /** Where its data is follows from the container, its server's address from the rest. */
  async #whereIs(service: string): Promise<string> {
    const container = await storeContainer(this.#engine, this.#project, service);
    const { id, state, addresses, publishedPorts } = container;
    return JSON.stringify([id, state, addresses, [...publishedPorts]]);
  }

  async #placesOf({ component, access, service }: ContainedStore): Promise<readonly CapturedPlace[]> {
    const [given] = component.places.paths;
    if (given !== undefined) return [{ store: given.path }];
    const container = await storeContainer(this.#engine, this.#project, service);
    return [{ store: await dataDirectory(this.#engine, access.recognition, container), service }];
  }

  async #placeOf(
    store: ContainedStore,
    container: ProjectContainer,
    password: string | undefined,
  ): Promise<StorePlace & { readonly atRisk?: TarsError | undefined }> {
    const { port, givenAddress, through, recognition, identityCall } = store.access;
    const addressIsGiven = givenAddress !== undefined;
    const address = container.state === 'running' ? addressOf(container, port) : 'unknown';
    if (address === undefined && !addressIsGiven && through !== 'files') throw noAddress(container);
    return {
      address,
      proof: createServerProof(this.#engine, {
        ...{ container, port, addressIsGiven },
        ...(through === 'server'
          ? { dataDirectory: await dataDirectory(this.#engine, recognition, container) }
          : {}),
        ...(identityCall === undefined ? {} : { askRunId: identityCall(container, password) }),
      }),
      ...(await this.#dataPlace(store, container)),
      ...recognition.credentials?.(container),
      programs: this.#programsOf(store.access, container),
    };
  }

  #programsOf(
    { programsPort: port }: ConfiguredContainer,
    { id, name, state }: ProjectContainer,
  ): ServerContainer | undefined {
    if (port === undefined || state !== 'running') return undefined;
    return { name, runner: containerRunner(this.#engine, id), port };
  }

  /** Where the store's data is: on this machine, or behind the Engine where this process cannot get at it. */
  async #dataPlace(
    { component, access }: ContainedStore,
    container: ProjectContainer,
  ): Promise<Pick<StorePlace, 'path' | 'remote'> & { readonly atRisk?: TarsError }> {
    if (access.through === 'server' || component.places.paths.length > 0) return {};
    const path = await dataDirectory(this.#engine, access.recognition, container);
    const located = await locatePath(container, path);
    if (located === undefined) {
      const problem = notMounted(access.recognition, path, container);
      // Nothing else would bring back what is not handed out to a client.
      if (access.unmounted === undefined) throw problem;
      if (container.state !== 'running') throw this.#notRunning(container);
      return { atRisk: problem };
    }
    const { mount, hostPath, accessible } = located;
    if (accessible) return { path: hostPath };
    const volume = createDockerVolume(this.#engine, { container, mount, path });
    return {
      remote: {
        volume,
        hold: createContainerHold(this.#engine, this.#address, container, createGuardian()),
      },
    };
  }

  #notRunning(container: ProjectContainer): ServiceUnavailableError {
    const { service, state } = container;
    const told = recognise(container, storeTraits(kinds));
    if (told?.store === 'none' && told.why !== undefined) {
      return new ServiceUnavailableError(`${service} of the project ${this.#project} ${told.why}`, {
        hint: `Remove the component with service: ${service} from components: in tars.yaml.`,
      });
    }
    if (state === 'unknown') {
      return new ServiceUnavailableError(
        `${service} of the project ${this.#project} restarts again and again`,
        {
          hint: `Read why it ends: docker compose -p ${this.#project} logs ${service}`,
        },
      );
    }
    return new ServiceUnavailableError(`${service} of the project ${this.#project} is ${state}`, {
      hint: `Start it: docker compose -p ${this.#project} ${state === 'paused' ? 'unpause' : 'start'} ${service}`,
    });
  }
}

/** Why this process cannot use a directory that is mounted: a missing one is missing for root, too. */
async function inaccessible(path: string, { service }: ProjectContainer): Promise<TarsError> {
  if (await isVisible(path)) {
    return new TarsError('access-denied', `This user may not read and write ${path}`, {
      hint: 'Run tars as root, or give this user access to that directory.',
    });
  }
  return new ServiceUnavailableError(`${path}, which ${service} mounts, is not on this machine`, {
    hint: `Create the directory, or start ${service}, for which the Engine creates it. If the Engine runs on another machine, run tars there.`,
  });
}

/** The Engine lets go of it when the container ends, and a restore has to stop the container. */
const onDemandProblem = (
  component: string,
  volume: string,
  { service }: ProjectContainer,
): RestoreRefusedError =>
  new RestoreRefusedError(
    `The Engine mounts the volume ${volume} only while ${service} runs, so ${component} can be captured then, and not restored in place`,
    {
      hint: `Start ${service} before a backup. To restore, extract the files with restic restore, or mount the directory on this machine and name it in paths: of ${component}.`,
    },
  );

const noAddress = ({ name, service }: ProjectContainer): ConfigurationError =>
  new ConfigurationError(`The container ${name} of ${service} runs in a network that has no address for it`, {
    hint: 'It may share the network of another container. Set host and port (of Chroma: url) of the component in tars.yaml.',
  });
