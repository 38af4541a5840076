import createIgnore, { type Ignore } from 'ignore';

/** The library remembers each path that it was asked for, so it is created again after this many. */
const rememberedMax = 10_000;

/**
 * What is left out of a tree: patterns as in a `.gitignore` in its directory. `cache` matches at any depth, `/cache` and
 * `logs/old` from the tree's directory on, `cache/` only directories; the last pattern that matches decides, and `!` takes
 * back. `./cache` is `/cache`.
 */
export class Exclusions {
  readonly #patterns: readonly string[];
  #matcher: Ignore;
  #remembered = 0;
  /** Each with a matcher of its own; those that never matched. */
  readonly #unmatched: Map<string, Ignore>;

  constructor(patterns: readonly string[]) {
    this.#patterns = patterns.map((pattern) => pattern.replace(/^(!?)\.\//, '$1/'));
    this.#matcher = matcherOf(this.#patterns);
    // Whether a pattern matches anything is asked of what it takes back, too.
    this.#unmatched = new Map(
      patterns.map((pattern, i) => [pattern, matcherOf([(this.#patterns[i] ?? '').replace(/^!/, '')])]),
    );
  }

  get isEmpty(): boolean {
    return this.#patterns.length === 0;
  }

  /** @param path relative to the tree, not empty; to be asked of parents before their children */
  excludes(path: string, isDirectory: boolean): boolean {
    if (this.#patterns.length === 0) return false;
    if (++this.#remembered > rememberedMax) {
      this.#remembered = 0;
      this.#matcher = matcherOf(this.#patterns);
    }
    const asked = isDirectory ? `${path}/` : path;
    const { ignored, unignored } = this.#matcher.test(asked);
    if (ignored || unignored) this.#note(asked);
    return ignored;
  }

  #note(asked: string): void {
    for (const [pattern, matcher] of this.#unmatched) {
      if (matcher.ignores(asked)) this.#unmatched.delete(pattern);
    }
  }

  /** Patterns that matched nothing so far, as they were given. */
  get unmatched(): readonly string[] {
    return [...this.#unmatched.keys()];
  }
}

function matcherOf(patterns: readonly string[]): Ignore {
  return createIgnore({ ignorecase: false, allowRelativePaths: true }).add([...patterns]);
}
