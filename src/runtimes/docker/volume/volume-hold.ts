import { throwIfAborted } from '../../../model/abort.ts';
import type { Clock, OperationContext } from '../../../ports/context.ts';
import type { RestartableArmedGuardian, EngineAddress, RestartableGuardian } from '../../../ports/runtime.ts';
import type { PreparedHold, StoreHold } from '../../../ports/volume.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { startIfStopped, unpause } from '../index.ts';
import type { ProjectContainer } from '../project/project.ts';

/** A guardian that waits for its turn; other components of the stack may take long to get ready. */
const waitMaxMs = 3_600_000;
/** A frozen store answers nobody, so copying must have ended by then. */
const frozenMaxMs = 30_000;
/** A stopped store is copied whole. */
const stoppedMaxMs = 900_000;
/** Stores may need long to write down what they hold. */
const stopTimeoutS = 60;

/** Freezes or stops a store's container, never for longer than it must be: a guardian ends it when nobody else does. */
export function createContainerHold(
  engine: Engine,
  address: EngineAddress,
  { id, name }: Pick<ProjectContainer, 'id' | 'name'>,
  guardian: RestartableGuardian,
): StoreHold {
  return {
    async prepare(way, ctx: OperationContext): Promise<PreparedHold> {
      const kind = way === 'freeze' ? 'unpause' : 'start';
      const armed = await guardian.arm([{ kind, engine: address, containerId: id }], waitMaxMs, ctx);
      return way === 'freeze'
        ? new Hold(ctx.clock, armed, frozenMaxMs, `Cannot freeze the container ${name}`, {
            begin: () => engine.getContainer(id).pause(),
            end: () => unpause(engine, id),
          })
        : new Hold(ctx.clock, armed, stoppedMaxMs, `Cannot stop the container ${name}`, {
            begin: () => engine.getContainer(id).stop({ t: stopTimeoutS }),
            end: () => startIfStopped(engine, id),
          });
    },
  };
}

interface Steps {
  begin(): Promise<unknown>;
  end(): Promise<void>;
}

class Hold implements PreparedHold {
  heldMs = 0;
  readonly #clock: Clock;
  readonly #armed: RestartableArmedGuardian;
  readonly #maxMs: number;
  readonly #what: string;
  readonly #steps: Steps;
  #sinceMs: number | undefined;

  constructor(clock: Clock, armed: RestartableArmedGuardian, maxMs: number, what: string, steps: Steps) {
    this.#clock = clock;
    this.#armed = armed;
    this.#maxMs = maxMs;
    this.#what = what;
    this.#steps = steps;
  }

  async begin(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    this.#armed.restart(this.#maxMs);
    this.#sinceMs = this.#clock.monotonicMs();
    try {
      await this.#steps.begin();
    } catch (error) {
      throw engineError(error, this.#what);
    }
  }

  async end(): Promise<boolean> {
    const sinceMs = this.#sinceMs;
    this.#sinceMs = undefined;
    try {
      if (sinceMs !== undefined) {
        await this.#steps.end();
        this.heldMs += this.#clock.monotonicMs() - sinceMs;
      }
    } catch (error) {
      throw engineError(error, `${this.#what}: it could not be resumed`);
    }
    return !(await this.#armed.disarm());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
