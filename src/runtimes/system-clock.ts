import { setTimeout as delay } from 'node:timers/promises';
import { InterruptedError } from '../model/errors.ts';
import type { Clock } from '../ports/context.ts';

/** The machine's own clock. */
export const systemClock: Clock = {
  // eslint-disable-next-line no-restricted-properties -- the one place that asks the machine
  now: () => new Date(Date.now()),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, { signal });
    } catch (cause) {
      throw new InterruptedError('Interrupted', { cause });
    }
  },
};
