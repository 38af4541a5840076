import type { BigIntStats } from 'node:fs';
import type { OperationContext } from '../../ports/context.ts';
import { someOf } from '../../model/plural.ts';
import { namedMax } from './tree-sink.ts';
import type { TreeScope } from './tree/scope.ts';

const mountedReason = 'another file system is mounted there; list it under paths: as well, or under exclude:';

/** What a walk leaves out of a tree, for the report. */
export class LeftOut {
  readonly #scope: TreeScope;
  readonly #missing: (path: string, reason: string) => void;
  readonly #excluded: string[] = [];
  #excludedCount = 0;
  readonly #byRestores: string[] = [];

  /** @param missing told of what belongs to the tree and is not captured */
  constructor(scope: TreeScope, missing: (path: string, reason: string) => void) {
    this.#scope = scope;
    this.#missing = missing;
  }

  /** For a walk: true for what is left out. */
  readonly leaveOut = (path: string, stats: BigIntStats): boolean => {
    const reason = this.#scope.outside(path, stats);
    if (reason === 'mounted') this.#missing(path, mountedReason);
    if (reason === 'restore') this.#byRestores.push(path);
    if (reason === 'excluded') {
      this.#excludedCount += 1;
      if (this.#excluded.length < namedMax) this.#excluded.push(path);
    }
    return reason !== undefined;
  };

  report(name: string, tree: string, { log }: OperationContext): void {
    if (this.#excludedCount > 0)
      log.info(`${name}: exclude: leaves out ${someOf(this.#excluded, this.#excludedCount)} of ${tree}`);
    if (this.#byRestores.length === 0) return;
    const names = someOf(this.#byRestores.slice(0, namedMax), this.#byRestores.length);
    log.warn(
      `${name}: ${names} in ${tree} has a name that tars gives to previous data of a restore, so it is not captured. Remove or rename it`,
    );
  }
}
