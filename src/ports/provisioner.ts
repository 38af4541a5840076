import type { Finding } from '../model/finding.ts';
import type { ComposeRecord } from '../model/manifest.ts';
import type { OperationContext } from './context.ts';

/**
 * What services run in: containers, volumes, images. Services that are plain processes have nothing of the kind, and
 * no provisioner.
 */
export interface Provisioner {
  /**
   * What the manifest keeps of the services' surroundings. Changes nothing.
   * @throws ConfigurationError when nothing of them is there: they may have another name
   */
  record(ctx: OperationContext): Promise<ComposeRecord>;
  /**
   * Variables that the services' files use and that only a shell had: with the captured files alone, the services
   * cannot be created as they are.
   */
  shellVariables(ctx: OperationContext): Promise<ShellVariables>;
  /**
   * What is missing, what creating it takes, and what differs from the capture. Changes nothing.
   * @throws RestoreRefusedError when it cannot be created: images that are not here (all are named), no Compose,
   * something that another project has
   */
  plan(request: ProvisionRequest, ctx: OperationContext): Promise<ProvisionPlan>;
  /** The objects that exist before {@link create} is called; the caller keeps them. */
  existing(ctx: OperationContext): Promise<ExistingResources>;
  /**
   * Creates what is missing and starts nothing. What was not there `before` is removed again when it fails.
   * @throws RestoreRefusedError as {@link plan}, for what could only be seen now
   */
  create(
    request: ProvisionRequest,
    before: ExistingResources,
    ctx: OperationContext,
  ): Promise<CreatedResources>;
  /**
   * Removes what {@link create} created. Harmless when it is gone. A volume has nothing but its name: it is removed
   * only while one of the created containers holds it, since no other can have come in its place until then. Warns of
   * one that stays.
   * @returns what could not be removed, in sentences
   */
  remove(created: CreatedResources, ctx: OperationContext): Promise<readonly string[]>;
  /**
   * As {@link remove}, after a {@link create} that was cut off and could not say what it created. Only what nobody has
   * used since goes: containers that were never started, volumes that hold nothing. Warns of what stays.
   */
  removeSince(before: ExistingResources, ctx: OperationContext): Promise<readonly string[]>;
  /**
   * Waits until `service` is as well as it was at the capture: running, and healthy where it was.
   * @returns a finding with the end of its log when it is not after its start period and some
   */
  awaitHealth(
    service: string,
    recorded: ComposeRecord | undefined,
    ctx: OperationContext,
  ): Promise<readonly Finding[]>;
  /** The last lines of what `service` logged, without its secrets; empty when there are none. */
  logEnd(service: string, ctx: OperationContext): Promise<string>;
}

/** What only a shell knew when services were created. */
export interface ShellVariables {
  /** Where the services' files are; undefined when nothing says that. */
  readonly directory: string | undefined;
  readonly variables: readonly ShellVariable[];
}

/** A variable of the services' files that no file defines. */
export interface ShellVariable {
  readonly name: string;
  /** As what runs shows it; undefined where nothing does. It may be a password, and is never shown. */
  readonly value: string | undefined;
}

/** What a restore needs to have there before the stores can be restored. */
export interface ProvisionRequest {
  /** Undefined for a snapshot that has none. */
  readonly recorded: ComposeRecord | undefined;
  /** Services of the stores to restore. */
  readonly stores: readonly StoreService[];
  /** Files that the snapshot brings back where they are missing, absolute. */
  readonly restorable: readonly string[];
  /** Services without a store are wanted too. */
  readonly whole: boolean;
}

/** A component to restore, and the service it is to run in. */
export interface StoreService {
  readonly component: string;
  readonly kind: string;
  readonly service: string;
  /** Of the captured server. */
  readonly version: string | undefined;
}

/** What would be created and started; nothing has been touched yet. */
export interface ProvisionPlan {
  readonly project: string;
  /** Services that have no container yet, as far as that can be known before the files are there. */
  readonly services: readonly string[];
  readonly volumes: readonly string[];
  /** Services without a container and those whose container was never started, as far as they ran at the capture. */
  readonly start: readonly string[];
  /** Whether something has to be created. */
  readonly needed: boolean;
  /** Files that must be brought back first. */
  readonly files: readonly string[];
  /** For a person, in the order of execution; empty when nothing is missing. */
  readonly steps: readonly string[];
  readonly warnings: readonly string[];
}

/** What there was at one moment; kept in the journal. */
export interface ExistingResources {
  /** Ids, of the project. */
  readonly containers: readonly string[];
  /** Names, of all there are. */
  readonly volumes: readonly string[];
  /** Ids, of the project. */
  readonly networks: readonly string[];
}

/** What one restore created; kept in the journal. */
export interface CreatedResources {
  readonly containers: readonly CreatedContainer[];
  /** Names. */
  readonly volumes: readonly string[];
  /** Ids. */
  readonly networks: readonly string[];
  /** Absolute, each after the one that it lies in. Absent up to 1.0.12. */
  readonly directories?: readonly string[] | undefined;
}

/** A container that a provisioning made, so that it may take it away again. */
interface CreatedContainer {
  readonly id: string;
  readonly service: string;
  /** Every volume it has is a new one too: nothing was in it before. */
  readonly empty: boolean;
}
