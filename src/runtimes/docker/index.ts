import { throwIfAborted } from '../../model/abort.ts';
import { ConfigurationError, ServiceUnavailableError, TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { EngineAddress, ResumeAction, Runtime, Service } from '../../ports/runtime.ts';
import { answerLimit, engineError, engineStatus, type Engine } from './engine/engine.ts';
import { findWriters, sketchContainers } from './discovery/inventory.ts';
import { isGone, mountsOf, unusedVolumes } from './project/mounts.ts';
import { isStore, type StoreTraits } from './discovery/recognise.ts';
import { containersOf, readProject, type Project, type ProjectContainer } from './project/project.ts';

/** The project, and the Engine that runs it. */
interface DockerRuntimeOptions {
  readonly engine: Engine;
  /** For the guardian, which makes a connection of its own. */
  readonly address: EngineAddress;
  readonly project: string;
  /** What tars.yaml says of services, by name; the others are as the Engine describes them. */
  readonly services: ReadonlyMap<string, DockerServiceOptions>;
  /** Services that are captured as stores: what depends on one, or is told where it is, seems to write to it. */
  readonly stores: ReadonlySet<string>;
  /** What stores there may be, captured or not. */
  readonly kinds: readonly StoreTraits[];
}

/** What tars.yaml says of a service. */
interface DockerServiceOptions {
  /** Undefined where it does not say. */
  readonly writer: boolean | undefined;
  /** In addition to what Compose recorded. */
  readonly dependsOn: readonly string[];
  /** Undefined: what the Compose file says, and for stores no less than {@link storeStopMs}. */
  readonly stopTimeoutMs: number | undefined;
}

/** Stores may need long to write down what they hold; the Engine kills what takes longer. */
const storeStopMs = 60_000;
/** The Engine's own default for everything else. */
const defaultStopMs = 10_000;
/** Freezing takes a tenth of a second; a busy machine is given more. */
const pauseTimeoutMs = 10_000;
/** On a busy machine the kernel may not get all processes frozen in the time the Engine gives it. */
const pauseAttempts = 4;
const resumeAttempts = 3;

function stopTimeoutOf(
  container: ProjectContainer,
  declaredMs: number | undefined,
  kinds: readonly StoreTraits[],
): number {
  const graceMs = declaredMs ?? container.stopGraceMs ?? defaultStopMs;
  return isStore(container, kinds) ? Math.max(graceMs, storeStopMs) : graceMs;
}

/** Services are those of one Compose project; a scaled one is all its containers. */
export function createDockerRuntime(options: DockerRuntimeOptions): Runtime {
  const { engine, address, project: projectName, services, kinds } = options;
  /** Containers this process has paused or may have, so that it never resumes one that somebody else paused. */
  const paused = new Set<string>();
  /** Containers of the writers that the guardian would resume, by service. */
  const announced = new Map<string, ReadonlySet<string>>();
  const project = ({ signal }: OperationContext): Promise<Project> =>
    readProject(engine, projectName, signal);

  return {
    async discover(ctx) {
      throwIfAborted(ctx.signal);
      return describeServices(await project(ctx), options);
    },

    async mounts(ctx) {
      throwIfAborted(ctx.signal);
      return mountsOf((await project(ctx)).containers, address);
    },

    async unusedVolumes(ctx) {
      throwIfAborted(ctx.signal);
      return unusedVolumes(engine, await project(ctx), address);
    },

    async areGone(mounts, ctx) {
      throwIfAborted(ctx.signal);
      return (await Promise.all(mounts.map((mount) => isGone(engine, mount)))).every(Boolean);
    },

    async resumeActions(writers, ctx) {
      const containers = running(await project(ctx), writers);
      for (const writer of writers)
        announced.set(
          writer,
          new Set(containers.flatMap(({ id, service }) => (service === writer ? [id] : []))),
        );
      return containers.map(({ id }): ResumeAction => ({
        kind: 'unpause',
        engine: address,
        containerId: id,
      }));
    },

    async pause(writers, ctx) {
      throwIfAborted(ctx.signal);
      const containers = running(await project(ctx), writers);
      const late = containers.find(({ id, service }) => announced.get(service)?.has(id) === false);
      if (late !== undefined) {
        // Nobody would resume this one if we died now.
        throw new ServiceUnavailableError(`The writer ${late.service} was started just now`, {
          hint: 'Run the backup again.',
        });
      }
      const results = await Promise.allSettled(
        containers.map((container) => pauseContainer(engine, container, paused)),
      );
      const failure = results.find((result) => result.status === 'rejected');
      if (failure === undefined) return;
      await resumeAll(engine, paused);
      throw failure.reason;
    },

    async resume() {
      await resumeAll(engine, paused);
    },

    async stop(service, ctx) {
      const declaredMs = services.get(service)?.stopTimeoutMs;
      for (const container of containersOf(await project(ctx), service)) {
        if (container.state === 'stopped') continue;
        await stopContainer(engine, container, stopTimeoutOf(container, declaredMs, kinds), ctx);
      }
    },

    async byHand(names, ctx) {
      const found = await project(ctx);
      const containers = names.flatMap((name) => containersOf(found, name));
      return {
        stop: containers.map((container) => {
          const declaredMs = services.get(container.service)?.stopTimeoutMs;
          const timeoutMs = stopTimeoutOf(container, declaredMs, kinds);
          return `docker stop -t ${Math.ceil(timeoutMs / 1000)} ${container.name}`;
        }),
        start: containers.map(({ name }) => `docker start ${name}`).reverse(),
      };
    },

    async start(service, ctx) {
      const containers = containersOf(await project(ctx), service);
      if (containers.length === 0) throw missing(service, projectName);
      for (const { id, name, state } of containers) {
        throwIfAborted(ctx.signal);
        const container = engine.getContainer(id);
        try {
          if (state === 'paused') await container.unpause();
          else if (state === 'stopped') await container.start();
        } catch (error) {
          if (engineStatus(error) !== 304)
            throw engineError(error, `Cannot start the container ${name} of ${service}`);
        }
      }
    },
  };
}

/** @throws ConfigurationError for a service the project does not have */
function running(project: Project, services: readonly string[]): readonly ProjectContainer[] {
  return services.flatMap((service) => {
    const containers = containersOf(project, service);
    if (containers.length === 0) {
      const known = [...new Set(project.containers.map((container) => container.service))];
      throw new ConfigurationError(`The project ${project.name} has no service ${service}`, {
        hint: `It has: ${known.join(', ') || 'no containers at all'}.`,
      });
    }
    return containers.filter(({ state }) => state === 'running');
  });
}

/** Also names services that tars.yaml knows and that have no container. */
function describeServices(
  project: Project,
  { services: options, stores, kinds, address }: DockerRuntimeOptions,
): readonly Service[] {
  const captured = [...stores].map((service) => ({ service }));
  const seeming = findWriters(sketchContainers(project, address, undefined), captured);
  // A store that nothing captures is none of them, whatever it depends on.
  const hasStore = (service: string): boolean =>
    containersOf(project, service).some((container) => isStore(container, kinds));
  const whyOf = new Map(
    seeming.filter(({ service }) => !hasStore(service)).map(({ service, why }) => [service, why]),
  );
  const names = new Set([...project.containers.map(({ service }) => service), ...options.keys()]);
  return [...names].sort().map((name) => {
    const containers = containersOf(project, name);
    const declared = options.get(name);
    return {
      name,
      state: combinedState(new Set(containers.map(({ state }) => state))),
      missing: containers.length === 0,
      dependsOn: [
        ...new Set([...(project.dependencies.get(name) ?? []), ...(declared?.dependsOn ?? [])]),
      ].filter((dependency) => names.has(dependency)),
      writer: declared?.writer ?? false,
      seemsWriter: declared?.writer === undefined ? whyOf.get(name) : undefined,
      canPause: true,
      canStop: true,
      ...(containers.some(isUnhealthy) ? { unhealthy: true } : {}),
    };
  });
}

/** What the health check said last stays with a container that was stopped. */
const isUnhealthy = ({ state, health }: ProjectContainer): boolean =>
  state === 'running' && health === 'unhealthy';

function combinedState(states: ReadonlySet<ProjectContainer['state']>): Service['state'] {
  // One container that restarts may write at any moment, whatever the others do.
  const order = ['unknown', 'running', 'paused'] as const;
  return order.find((state) => states.has(state)) ?? 'stopped';
}

/** Not to be interrupted: nobody would know then whether the container was paused. */
async function pauseContainer(
  engine: Engine,
  { id, name }: ProjectContainer,
  paused: Set<string>,
): Promise<void> {
  paused.add(id);
  for (let attempt = 1; ; attempt++) {
    try {
      await engine.getContainer(id).pause(answerLimit(undefined, pauseTimeoutMs));
      return;
    } catch (error) {
      const status = engineStatus(error);
      if (status === 500 && attempt < pauseAttempts) continue;
      // It is gone, does not run, or somebody else has just paused it. Any other answer, or none, leaves it open.
      if (status === 404 || status === 409) paused.delete(id);
      throw engineError(error, `Cannot pause the container ${name}`);
    }
  }
}

/** A container that runs already, is gone or was paused by nobody needs nothing. */
async function resumeAll(engine: Engine, paused: Set<string>): Promise<void> {
  const failures: unknown[] = [];
  await Promise.all(
    [...paused].map(async (id) => {
      for (let attempt = 1; paused.has(id); attempt++) {
        try {
          await unpause(engine, id);
          paused.delete(id);
        } catch (error) {
          if (attempt < resumeAttempts) continue;
          failures.push(error);
          return;
        }
      }
    }),
  );
  if (failures.length > 0) throw engineError(failures[0], 'Cannot resume a writer');
}

/** Unpauses; harmless for a container that is not paused or not there. */
export async function unpause(engine: Engine, containerId: string): Promise<void> {
  const container = engine.getContainer(containerId);
  try {
    await container.unpause(answerLimit(undefined, pauseTimeoutMs));
  } catch (error) {
    const status = engineStatus(error);
    if (status === 404 || status === 409 || status === 304) return;
    // Engines before 23 answer 500 for a container that is not paused.
    const state = await container.inspect(answerLimit(undefined, pauseTimeoutMs)).catch(() => undefined);
    if (state?.State.Paused === false) return;
    throw error;
  }
}

/** Starts; harmless for a container that runs or is not there. */
export async function startIfStopped(engine: Engine, containerId: string): Promise<void> {
  try {
    await engine.getContainer(containerId).start();
  } catch (error) {
    const status = engineStatus(error);
    if (status !== 304 && status !== 404) throw error;
  }
}

async function stopContainer(
  engine: Engine,
  { id, name, service, state }: ProjectContainer,
  timeoutMs: number,
  ctx: OperationContext,
): Promise<void> {
  throwIfAborted(ctx.signal);
  const container = engine.getContainer(id);
  try {
    // A frozen process cannot end by itself.
    if (state === 'paused') await container.unpause();
    await container.stop({ t: Math.ceil(timeoutMs / 1000) });
  } catch (error) {
    const status = engineStatus(error);
    if (status !== 304 && status !== 404) throw engineError(error, `Cannot stop the container ${name}`);
  }
  const after = await container.inspect().catch((error: unknown) => {
    if (engineStatus(error) === 404) return undefined;
    throw engineError(error, `Cannot stop the container ${name}`);
  });
  if (after?.State.Running === true) {
    throw new TarsError(
      'timeout',
      `The container ${name} of ${service} runs again right after it was stopped`,
      {
        hint: 'Another program starts it. Stop that program first, then run this again.',
      },
    );
  }
}

function missing(service: string, project: string): ServiceUnavailableError {
  return new ServiceUnavailableError(`The project ${project} has no container of ${service}`, {
    hint: `Create the project's containers first: docker compose -p ${project} up --no-start`,
  });
}
