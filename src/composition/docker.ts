import type { ServerContainer } from '../components/postgres/connection/options.ts';
import { createAtRiskComponent, createCaptureOnlyComponent } from '../components/wrappers/at-risk.ts';
import type { DerivedContent } from '../components/config/derived.ts';
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
import type { ProgramCall } from '../ports/programs.ts';
import type { Provisioner } from '../ports/provisioner.ts';
import type { EngineAddress, Runtime } from '../ports/runtime.ts';
import { dataDirectory, notMounted } from '../runtimes/docker/discovery/data-directory.ts';
import { connectEngine, findEngine, type Engine } from '../runtimes/docker/engine/engine.ts';
import { containerRunner } from '../runtimes/docker/engine/exec.ts';
import { createDockerRuntime } from '../runtimes/docker/index.ts';
import { addressOf, argumentOf, locatePath, storeContainer } from '../runtimes/docker/project/places.ts';
import type { ProjectContainer } from '../runtimes/docker/project/project.ts';
import { createDockerProvisioner } from '../runtimes/docker/provision/provision.ts';
import { storePorts, type StoreKind } from '../runtimes/docker/discovery/recognise.ts';
import { shellFileName, shellFileText } from '../runtimes/docker/compose/shell-file.ts';
import { createServerProof } from '../runtimes/docker/server-proof.ts';
import { createContainerHold } from '../runtimes/docker/volume/volume-hold.ts';
import { createDockerVolume } from '../runtimes/docker/volume/volume.ts';
import { createGuardian } from '../runtimes/guardian/index.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { redisTls } from '../settings/redis-address.ts';
import type { ComponentSettings, DockerSettings } from '../settings/schema.ts';
import {
  composeComponent,
  servicesOfStores,
  type StackOverrides,
  type StorePlace,
  type StackContext,
} from './components.ts';

type StoreSettings = Exclude<ComponentSettings, { kind: 'config' | 'files' }>;
type FilesSettings = Extract<ComponentSettings, { kind: 'files' }>;

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
      },
    });
    const stores = new Set(Object.values(components).flatMap(({ service }) => service ?? []));
    const provisioner = createDockerProvisioner({
      ...{ engine, address, project, composeFiles, envFiles, stores, apartFrom },
    });
    return new DockerStack(engine, address, project, runtime, provisioner);
  }

  /** `component` in its container, wherever that is at the time of each call. */
  component(
    name: string,
    component: ComponentSettings,
    stack: StackContext,
    password: string | undefined,
  ): Component {
    if (component.kind === 'config')
      return composeComponent(name, component, stack, this.#shellFileOf(name, stack));
    if (component.kind === 'files' && component.inside === undefined)
      return composeComponent(name, component, stack, {});
    const { kind, service } = component;
    if (service === undefined) {
      throw new ConfigurationError(`Component ${name} does not say which service of ${this.#project} it is`, {
        hint: `Add service: to components.${name} in tars.yaml.`,
      });
    }
    if (component.kind === 'files') return this.#files(name, component, service, stack);
    return createPlacedComponent({
      name,
      kind,
      service,
      places: () => this.#placesOf(component, service),
      locate: async (needsService) => {
        const container = await storeContainer(this.#engine, this.#project, service);
        // PostgreSQL does everything over its connection, and has an address only while it runs.
        if ((needsService || kind === 'postgres') && container.state !== 'running')
          throw this.#notRunning(container);
        const place = await this.#placeOf(component, container, password);
        const composed = composeComponent(name, component, stack, {
          ...place,
          password: password ?? place.password,
        });
        if (place.atRisk === undefined) return composed;
        // Redis is restored into its files, Chroma through its server.
        return createAtRiskComponent(composed, place.atRisk, { canRestore: kind === 'chroma' });
      },
    });
  }

  /** One component keeps it: the first with configuration. */
  #shellFileOf(name: string, { settings, overrides }: StackContext): Pick<StorePlace, 'derived'> {
    const components = Object.entries(overrides.beside ?? settings.components);
    if (components.find(([, { kind }]) => kind === 'config')?.[0] !== name) return {};
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
  #files(name: string, component: FilesSettings, service: string, stack: StackContext): Component {
    const inside = component.inside ?? '/';
    return createPlacedComponent({
      ...{ name, kind: component.kind, service },
      places: () => Promise.resolve(component.exclude.length > 0 ? [] : [{ tree: inside, service }]),
      locate: async () => {
        const container = await storeContainer(this.#engine, this.#project, service);
        const located = await locatePath(container, inside);
        if (located === undefined) {
          throw new ConfigurationError(`Nothing is mounted at ${inside} of ${service}`, {
            hint: `Mount a volume there, or correct inside: of ${name} in tars.yaml.`,
          });
        }
        if (located.mount.onDemand === true) {
          const problem = onDemandProblem(name, located.mount.volume ?? '', container);
          if (container.state === 'stopped') throw problem;
          const composed = composeComponent(name, component, stack, { path: located.hostPath });
          return createCaptureOnlyComponent(composed, problem);
        }
        if (!located.accessible) {
          throw new TarsError('access-denied', `This user may not read and write ${located.hostPath}`, {
            hint: 'Run tars as root, or give this user access to that directory.',
          });
        }
        return composeComponent(name, component, stack, { path: located.hostPath });
      },
    });
  }

  async #placesOf(component: StoreSettings, service: string): Promise<readonly CapturedPlace[]> {
    const given = givenPath(component);
    if (given !== undefined) return [{ store: given }];
    const container = await storeContainer(this.#engine, this.#project, service);
    return [{ store: await dataDirectory(this.#engine, component.kind, container), service }];
  }

  async #placeOf(
    component: StoreSettings,
    container: ProjectContainer,
    password: string | undefined,
  ): Promise<StorePlace & { readonly atRisk?: TarsError | undefined }> {
    const port = ('port' in component ? component.port : undefined) ?? storePorts[component.kind];
    const isGiven = givenAddress(component) !== undefined;
    const address = container.state === 'running' ? addressOf(container, port) : 'unknown';
    if (address === undefined && !isGiven && component.kind !== 'ollama') throw noAddress(container);
    return {
      address,
      proof: createServerProof(this.#engine, {
        ...{ container, port, addressIsGiven: isGiven },
        ...(component.kind === 'postgres'
          ? { dataDirectory: await dataDirectory(this.#engine, component.kind, container) }
          : {}),
        ...(component.kind === 'redis' ? { askRunId: runIdCall(component, container, password) } : {}),
      }),
      ...(await this.#dataPlace(component, container)),
      ...credentials[component.kind](container),
      programs: this.#programsOf(component, container),
    };
  }

  #programsOf(component: StoreSettings, { id, name, state }: ProjectContainer): ServerContainer | undefined {
    if (component.kind !== 'postgres' || component.host !== undefined || state !== 'running')
      return undefined;
    return { name, runner: containerRunner(this.#engine, id), port: component.port ?? storePorts.postgres };
  }

  /** Where the store's data is: on this machine, or behind the Engine where this process cannot get at it. */
  async #dataPlace(
    component: StoreSettings,
    container: ProjectContainer,
  ): Promise<Pick<StorePlace, 'path' | 'remote'> & { readonly atRisk?: TarsError }> {
    const { kind } = component;
    if (kind === 'postgres' || givenPath(component) !== undefined) return {};
    const path = await dataDirectory(this.#engine, kind, container);
    const located = await locatePath(container, path);
    if (located === undefined) {
      const problem = notMounted(kind, path, container);
      // While they run, these hand their data out to a client; nothing else would bring it back.
      if (kind !== 'chroma' && kind !== 'redis') throw problem;
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

  #notRunning({ service, state }: ProjectContainer): ServiceUnavailableError {
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

/** Its data directory on this machine, where tars.yaml says it. */
function givenPath(component: StoreSettings): string | undefined {
  if ('data_dir' in component) return component.data_dir;
  return 'path' in component ? component.path : undefined;
}

/** Its server's address, where tars.yaml says it. */
function givenAddress(component: StoreSettings): string | undefined {
  if ('socket' in component && component.socket !== undefined) return component.socket;
  if ('host' in component) return component.host;
  return 'url' in component ? component.url : undefined;
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

/** Prints `INFO server`. The password is not on the command line. */
function runIdCall(
  component: Extract<StoreSettings, { kind: 'redis' }>,
  container: ProjectContainer,
  configured: string | undefined,
): ProgramCall {
  // With a host of its own in tars.yaml, the port there is that host's.
  const own = component.host === undefined ? component.port : undefined;
  const told = (name: string): string | undefined => argumentOf(container, `--${name}`);
  const tls = redisTls(component) !== undefined;
  const port = own ?? told(tls ? 'tls-port' : 'port') ?? storePorts.redis;
  // In its own container nobody else can answer; a certificate it wants of clients, its own will do for.
  const certificate = [
    ['--cert', told('tls-cert-file')],
    ['--key', told('tls-key-file')],
  ].flatMap(([name = '', value]) => (value === undefined ? [] : [name, value]));
  const inside = component.socket === undefined ? undefined : told('unixsocket');
  const { username } = component;
  const password = configured ?? credentials.redis(container).password;
  return {
    path: 'redis-cli',
    args: [
      ...(inside === undefined ? ['-p', String(port)] : ['-s', inside]),
      ...(tls ? ['--tls', '--insecure', ...certificate] : []),
      ...(username === undefined ? [] : ['--user', username]),
      ...['INFO', 'server'],
    ],
    environment: password === undefined ? {} : { REDISCLI_AUTH: password },
  };
}

type Credentials = Pick<StorePlace, 'user' | 'password'>;

/** What the official images take from their environment or command line. */
const credentials: Readonly<Record<StoreKind, (container: ProjectContainer) => Credentials>> = {
  postgres: ({ environment }) => ({
    user: environment['POSTGRES_USER'],
    password: environment['POSTGRES_PASSWORD'],
  }),
  redis: (container) => ({
    password: argumentOf(container, '--requirepass') ?? container.environment['REDIS_PASSWORD'],
  }),
  chroma: () => ({}),
  ollama: () => ({}),
};
