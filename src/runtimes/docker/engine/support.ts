import type { ContainerInspectInfo } from 'dockerode';
import type { ContainerInspector, SupportedContainer } from '../../../ports/support.ts';
import {
  answerLimit,
  connectEngine,
  engineError,
  findEngine,
  type Engine,
  type EngineEnvironment,
} from './engine.ts';
import { joinStreams } from './frames.ts';
import { composeCall, composeLabels } from '../project/project.ts';

/** The containers of a project for a support bundle. Connects to nothing before it is asked. */
export function createContainerInspector(
  host: string | undefined,
  project: string,
  env: EngineEnvironment,
): ContainerInspector {
  const connect = async (): Promise<Engine> => connectEngine(await findEngine(host, env));
  const inspected = async (
    signal: AbortSignal,
  ): Promise<readonly [Engine, readonly ContainerInspectInfo[]]> => {
    const engine = await connect();
    const filters = { label: [`${composeLabels.project}=${project}`] };
    try {
      const listed = await engine.listContainers({ all: true, filters, ...answerLimit(signal) });
      const found = await Promise.allSettled(
        listed.map(({ Id: id }) => engine.getContainer(id).inspect(answerLimit(signal))),
      );
      return [engine, found.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))];
    } catch (error) {
      throw engineError(error, `Cannot list the containers of the project ${project}`);
    }
  };
  return {
    async version(signal) {
      try {
        const { Version, ApiVersion, Os, Arch, KernelVersion } = await within(
          (await connect()).version(),
          signal,
        );
        return { version: Version, api: ApiVersion, os: Os, arch: Arch, kernel: KernelVersion };
      } catch (error) {
        throw engineError(error, 'Cannot ask the Docker Engine for its version');
      }
    },
    async containers(signal) {
      const [engine, all] = await inspected(signal);
      return all.map((info) => supported(engine, info));
    },
    async composeFiles(signal) {
      const [, all] = await inspected(signal);
      return [...new Set(all.flatMap(({ Config: { Labels: labels } }) => composeCall(labels).files))];
    },
  };
}

/** For a call that takes no signal: it continues, and no one waits for it. */
async function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function supported(engine: Engine, info: ContainerInspectInfo): SupportedContainer {
  const name = info.Name.replace(/^\//, '');
  return {
    name,
    service: info.Config.Labels[composeLabels.service] ?? name,
    state: stateOf(info),
    environment: environmentOf(info),
    command: [info.Path, ...info.Args],
    async log(linesMax, bytesMax, ctx) {
      try {
        // Times would come between the parts of a long line.
        const options = {
          stdout: true,
          stderr: true,
          follow: false as const,
          timestamps: false,
          tail: linesMax,
        };
        const answer: unknown = await engine
          .getContainer(info.Id)
          .logs({ ...options, ...answerLimit(ctx.signal) });
        // The client makes an object of a log that is one JSON document.
        const bytes = Buffer.isBuffer(answer) ? answer : Buffer.from(`${JSON.stringify(answer)}\n`);
        return (info.Config.Tty ? bytes : joinStreams(bytes)).subarray(-bytesMax);
      } catch (error) {
        throw engineError(error, `Cannot read the log of ${name}`);
      }
    },
  };
}

/** The Engine answers null for a container without one, which the client's types do not have. */
const environmentOf = ({ Config: { Env: environment } }: ContainerInspectInfo): readonly string[] =>
  Array.isArray(environment) ? environment : [];

/** Field by field: whatever a later Engine adds stays out. */
function stateOf({
  Id,
  Name,
  Image,
  Created,
  RestartCount,
  State,
  Config,
  HostConfig,
  Mounts,
  NetworkSettings,
}: ContainerInspectInfo): object {
  return {
    ...{ name: Name.replace(/^\//, ''), id: Id.slice(0, 12), service: Config.Labels[composeLabels.service] },
    ...{ image: Config.Image, imageId: Image.replace(/^sha256:/, '').slice(0, 12), created: Created },
    ...{ status: State.Status, exitCode: State.ExitCode, outOfMemory: State.OOMKilled, error: State.Error },
    ...{ startedAt: State.StartedAt, finishedAt: State.FinishedAt, restarts: RestartCount },
    health: State.Health?.Status,
    failedHealthChecks: State.Health?.FailingStreak,
    restartPolicy: HostConfig.RestartPolicy?.Name,
    memoryLimitBytes: HostConfig.Memory,
    networkMode: HostConfig.NetworkMode,
    networks: Object.keys(NetworkSettings.Networks),
    ports: Object.entries(
      NetworkSettings.Ports as Record<string, { HostIp: string; HostPort: string }[] | null>,
    ).map(([port, bound]) => ({
      port,
      bound: bound?.map(({ HostIp, HostPort }) => `${HostIp}:${HostPort}`),
    })),
    mounts: Mounts.map(({ Type, Name: volume, Source, Destination, RW }) => ({
      ...{ type: Type, volume, source: Source, destination: Destination, readOnly: !RW },
    })),
  };
}
