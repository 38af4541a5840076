import { someOf } from '../../model/plural.ts';

/** How many paths a warning names whose attributes could not be set. */
const namedMax = 5;

/** Collects attributes that this user or this file system does not let a restore set. */
export class UnsetList {
  readonly #byAttribute = new Map<string, { count: number; readonly named: string[] }>();

  add(what: string, path: string): void {
    const known = this.#byAttribute.get(what) ?? { count: 0, named: [] };
    this.#byAttribute.set(what, known);
    known.count += 1;
    if (known.named.length < namedMax) known.named.push(path);
  }

  /** One sentence for each attribute. */
  get warnings(): readonly string[] {
    const isRoot = process.geteuid?.() === 0;
    const why = isRoot
      ? 'this file system does not support it'
      : 'only root may, or this file system does not support it';
    return [...this.#byAttribute].map(
      ([what, { count, named }]) => `${wordOf(what)} of ${someOf(named, count)} could not be set: ${why}`,
    );
  }
}

const wordOf = (what: string): string => (what === 'owner' ? 'the owner' : what);
