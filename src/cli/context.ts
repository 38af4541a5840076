import { systemClock } from '../composition/index.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Audience } from './render/audience.ts';

/** Events of progress are passed on this often per task at most. */
const progressIntervalMs = 50;

/** An operation's context whose log and progress become events for the audience. */
export function contextFor(audience: Audience, signal: AbortSignal): OperationContext {
  const message = (level: 'debug' | 'info' | 'warn') => (text: string) =>
    audience.event({ type: 'message', level, message: text });
  return {
    signal,
    clock: systemClock,
    log: { debug: message('debug'), info: message('info'), warn: message('warn') },
    progress: {
      start(task, totalBytes) {
        const total = totalBytes === undefined ? {} : { totalBytes };
        let doneBytes = 0;
        let saidMs = systemClock.monotonicMs();
        audience.event({ type: 'task-started', task, ...total });
        return {
          advance(bytes) {
            doneBytes += bytes;
            const nowMs = systemClock.monotonicMs();
            if (nowMs - saidMs < progressIntervalMs) return;
            saidMs = nowMs;
            audience.event({ type: 'task-progress', task, doneBytes, ...total });
          },
          finish(outcome) {
            audience.event({ type: 'task-progress', task, doneBytes, ...total });
            audience.event({ type: 'task-finished', task, outcome });
          },
        };
      },
    },
  };
}
