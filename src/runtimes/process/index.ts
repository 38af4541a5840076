import { ConfigurationError, TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ResumeAction, Runtime, Service } from '../../ports/runtime.ts';
import {
  canPause,
  pauseWriter,
  resumeAction,
  resumeWriter,
  type ProcessWriterOptions,
  type WriterProcesses,
} from './pausing.ts';
import { canStop, serviceState, startService, stopService, type ProcessServiceOptions } from './service.ts';

export type { ProcessServiceOptions, ProcessWriterOptions };

/** The services that run as plain processes or units, by name. */
interface ProcessRuntimeOptions {
  readonly services: Readonly<Record<string, ProcessServiceOptions>>;
  /** Those of the services that write to the stores and are paused for the cut, by the same names. */
  readonly writers: Readonly<Record<string, ProcessWriterOptions>>;
  /** Services that seem to write to the stores, while the configuration does not say whether they do; with why. */
  readonly seemWriters?: Readonly<Record<string, string>>;
}

/** The runtime of stacks whose stores run as plain processes or systemd units. Commands are never run by a shell. */
export function createProcessRuntime({
  services,
  writers,
  seemWriters = {},
}: ProcessRuntimeOptions): Runtime {
  const processes: WriterProcesses = { announced: new Map(), frozen: new Map() };
  const discoverOne = async (name: string, ctx: OperationContext): Promise<Service> => {
    const service = services[name];
    const writer = writers[name];
    return {
      name,
      state: await serviceState(service ?? writerAsService(writer), ctx.signal),
      dependsOn: service?.dependsOn ?? [],
      writer: writer !== undefined,
      seemsWriter: seemWriters[name],
      canPause: writer !== undefined && canPause(writer),
      canStop: service !== undefined && canStop(service),
    };
  };
  const pause = async (name: string, ctx: OperationContext): Promise<void> => {
    if (await pauseWriter(name, known(writers, name), processes, ctx)) return;
    // It may have ended just now. What runs all the same would go on writing.
    if ((await discoverOne(name, ctx)).state !== 'running') return;
    throw new TarsError('service-unavailable', `The writer ${name} runs, but its process was not found`, {
      hint: 'Correct its pid_file in tars.yaml, or give it pause and resume commands.',
    });
  };
  const resume = async (names: readonly string[]): Promise<void> => {
    const outcomes = await Promise.allSettled(
      names.map(async (name) => resumeWriter(name, known(writers, name), processes)),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  };
  return {
    discover: (ctx) =>
      Promise.all(
        [...new Set([...Object.keys(services), ...Object.keys(writers)])].map((name) =>
          discoverOne(name, ctx),
        ),
      ),
    // Which files a plain process uses, only it knows.
    mounts: () => Promise.resolve([]),
    async resumeActions(names): Promise<readonly ResumeAction[]> {
      const actions = await Promise.all(
        names.map(async (name) => resumeAction(name, known(writers, name), processes)),
      );
      return actions.filter((action) => action !== undefined);
    },
    async pause(names, ctx) {
      const outcomes = await Promise.allSettled(names.map(async (name) => pause(name, ctx)));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed === undefined) return;
      // Also those that failed: part of them may be stopped.
      await resume(names.filter((name) => writers[name] !== undefined));
      throw failed.reason;
    },
    resume,
    stop: (name, ctx) => stopService(name, known(services, name), ctx),
    start: (name, ctx) => startService(name, known(services, name), ctx),
  };
}

function writerAsService(writer: ProcessWriterOptions | undefined): ProcessServiceOptions {
  return {
    pidFile: writer?.pidFile,
    systemdUnit: writer?.systemdUnit,
    dependsOn: [],
    stopTimeoutMs: 0,
    startTimeoutMs: 0,
  };
}

function known<Options>(all: Readonly<Record<string, Options>>, name: string): Options {
  const options = all[name];
  if (options === undefined) {
    throw new ConfigurationError(`There is no service ${name} in the configuration`, {
      hint: `Add it under services in tars.yaml. Known services: ${Object.keys(all).join(', ') || 'none'}.`,
    });
  }
  return options;
}
