import { messageOf } from '../../model/errors.ts';
import type { Incomplete } from '../../model/manifest.ts';

/** How many missing entries are named; all are counted. */
const namedMax = 100;

/** Collects what cannot be captured of a component. */
export class IncompleteList {
  #count = 0;
  readonly #named: { readonly path: string; readonly reason: string }[] = [];

  add(path: string, reason: unknown): void {
    this.#count += 1;
    if (this.#named.length < namedMax)
      this.#named.push({ path, reason: typeof reason === 'string' ? reason : messageOf(reason) });
  }

  /** Undefined when nothing is missing. */
  get report(): Incomplete | undefined {
    return this.#count === 0 ? undefined : { count: this.#count, named: [...this.#named] };
  }
}
