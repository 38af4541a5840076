import type { RestoreOptions } from '../../model/restore-plan.ts';
import type { RestoreOrigin } from '../../ports/journal.ts';
import type { Component } from '../../ports/component.ts';
import type { Provisioner } from '../../ports/provisioner.ts';
import type { Runtime } from '../../ports/runtime.ts';

/** What a restore works on. */
export interface RestoreTarget {
  readonly stack: string;
  /** What its restores belong to; undefined where nothing but the stack's name tells them apart. */
  readonly origin?: RestoreOrigin | undefined;
  /** The configured components; those not in the snapshot are left alone. */
  readonly components: readonly Component[];
  readonly runtime: Runtime;
  /** Undefined for services that need nothing to run in. */
  readonly provisioner?: Provisioner | undefined;
}

/** Which components of a snapshot are restored, and how. */
export interface RestoreSelection extends RestoreOptions {
  /** Names of components to restore; all of the snapshot when undefined. */
  readonly only: readonly string[] | undefined;
  readonly skip: readonly string[];
  /** Start the service of a store that must answer before its restore can be planned; never for a dry run. */
  readonly startServices: boolean;
}
