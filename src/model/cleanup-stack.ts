/**
 * What has to be undone or closed, the latest first; ECMAScript's AsyncDisposableStack as far as it is needed here, which
 * Node has from 24 on.
 */
export class CleanupStack implements AsyncDisposable {
  #cleanups: (() => PromiseLike<unknown>)[] = [];

  use<Resource extends AsyncDisposable>(resource: Resource): Resource {
    this.defer(() => resource[Symbol.asyncDispose]());
    return resource;
  }

  defer(cleanup: () => PromiseLike<unknown>): void {
    this.#cleanups.push(cleanup);
  }

  /** Hands everything over to a stack of its own; disposing this one does nothing any more. */
  move(): CleanupStack {
    const moved = new CleanupStack();
    moved.#cleanups = this.#cleanups;
    this.#cleanups = [];
    return moved;
  }

  /** Carries out every one, once. @throws what one of them throws, or AggregateError */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (const cleanup of this.#cleanups.splice(0).reverse()) {
      try {
        await cleanup();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 1) throw new AggregateError(failures, 'Several things could not be cleaned up');
    if (failures.length === 1) throw failures[0];
  }
}
