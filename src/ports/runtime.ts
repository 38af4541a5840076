import type { OperationContext } from './context.ts';

/** A service of the stack as the runtime sees it. */
export interface Service {
  readonly name: string;
  readonly state: 'running' | 'stopped' | 'paused' | 'unknown';
  /** Only tars.yaml names it: it may be misspelt, and what it means may well run. */
  readonly missing?: boolean;
  /** Services that must run before this one. */
  readonly dependsOn: readonly string[];
  /** Writes to the stores, and is paused for the cut. */
  readonly writer: boolean;
  /**
   * Why it is taken for a writer although tars.yaml does not say whether it is one, such as `depends on db`; absent
   * for stores, and where tars.yaml says so.
   */
  readonly seemsWriter?: string | undefined;
  readonly canPause: boolean;
  readonly canStop: boolean;
  /** It runs, and its own health check says that it is not well. */
  readonly unhealthy?: boolean;
}

/**
 * How to resume one paused writer without this process: executed by the detached guardian when we die or the
 * pause lasts too long. Must be idempotent. Argv carries no secrets.
 */
export type ResumeAction =
  | { readonly kind: 'exec'; readonly argv: readonly string[] }
  | { readonly kind: 'signal'; readonly pid: number; readonly signal: 'SIGCONT' }
  | { readonly kind: 'unpause'; readonly engine: EngineAddress; readonly containerId: string }
  /** Of a container that was stopped for a moment. */
  | { readonly kind: 'start'; readonly engine: EngineAddress; readonly containerId: string };

/** Where a Docker Engine listens. */
export interface EngineAddress {
  /** As in DOCKER_HOST: `unix:///var/run/docker.sock`, `tcp://host:2376`. */
  readonly host: string;
  /** The folder of ca.pem, cert.pem and key.pem for a TLS connection. */
  readonly certDir?: string | undefined;
}

/** A directory or file a service has from outside itself, such as a volume. */
export interface ServiceMount {
  readonly service: string;
  readonly type: 'volume' | 'bind' | 'other';
  /** The volume's name, or the path on the machine the services run on. */
  readonly source: string;
  /** Where its files are on that machine. */
  readonly path: string;
  /** Where the service sees it. */
  readonly destination: string;
  /** Bytes of the files in it; undefined where finding out takes long or is not possible from here. */
  measure(ctx: OperationContext): Promise<number | undefined>;
}

/** A volume of the stack that no service has now, such as that of one that was removed or scaled to none. */
export interface UnusedVolume extends Pick<ServiceMount, 'path' | 'measure'> {
  readonly name: string;
}

/** What a person types around something that services must not run for. */
export interface StopAndStart {
  readonly stop: readonly string[];
  readonly start: readonly string[];
}

/** Where services run. Never decides anything: operations say what to pause, stop and start. */
export interface Runtime {
  discover(ctx: OperationContext): Promise<readonly Service[]>;
  /** What services keep outside themselves, as far as the runtime knows; nothing that is gone at the next start. */
  mounts(ctx: OperationContext): Promise<readonly ServiceMount[]>;
  /** Volumes of the stack that no service has. Absent where the runtime knows none. */
  unusedVolumes?(ctx: OperationContext): Promise<readonly UnusedVolume[]>;
  /** Whether none of `mounts` exists any more. Absent where the runtime cannot tell. */
  areGone?(mounts: readonly Omit<ServiceMount, 'measure'>[], ctx: OperationContext): Promise<boolean>;
  /** Computed before the pause, for the guardian: from then on nothing is paused that they would not resume. */
  resumeActions(writers: readonly string[], ctx: OperationContext): Promise<readonly ResumeAction[]>;
  /** Pauses all writers at once; when one fails, those already paused are resumed before it throws. */
  pause(writers: readonly string[], ctx: OperationContext): Promise<void>;
  /** Resumes; harmless when already resumed. Does not take the operation's signal: it must happen. */
  resume(writers: readonly string[]): Promise<void>;
  /** Stops and waits until it has stopped. @throws TarsError `timeout` */
  stop(service: string, ctx: OperationContext): Promise<void>;
  /**
   * Shell lines with which a person stops `services`, in that order, and starts them again. Absent where the runtime
   * has none to give.
   */
  byHand?(services: readonly string[], ctx: OperationContext): Promise<StopAndStart>;
  /** Starts; returns when the start command did, which may be before the service is ready. */
  start(service: string, ctx: OperationContext): Promise<void>;
}

/** The detached process that resumes writers when nobody else does (DESIGN.md section 4). */
export interface Guardian {
  /**
   * Starts the guardian and returns when it stands ready. From then on, unless disarmed, it carries out `actions`
   * once `pauseMaxMs` have passed or this process is gone.
   */
  arm(actions: readonly ResumeAction[], pauseMaxMs: number, ctx: OperationContext): Promise<ArmedGuardian>;
}

/** A guardian that stands ready, and acts unless it is disarmed. */
export interface ArmedGuardian {
  /** Ends the guardian. Resolves to `true` when it had already resumed the writers: the cut is void then. */
  disarm(): Promise<boolean>;
}

/** One that may be armed long before it is needed. */
export interface RestartableGuardian extends Guardian {
  arm(
    actions: readonly ResumeAction[],
    pauseMaxMs: number,
    ctx: OperationContext,
  ): Promise<RestartableArmedGuardian>;
}

/** A guardian whose time can be started again, right before the pause that it guards. */
export interface RestartableArmedGuardian extends ArmedGuardian {
  /** Starts the time again: the guardian carries its actions out once `pauseMaxMs` have passed. */
  restart(pauseMaxMs: number): void;
}
