import { runLogOf, scheduleSetAt, stackClaimsOf } from '../composition/index.ts';
import { notStarted } from '../operations/schedule/scheduled.ts';
import { statusOf, withNothingStarted, type StackStatus } from '../operations/schedule/status.ts';
import type { OperationContext } from '../ports/context.ts';
import type { ClaimHolder } from '../ports/run-log.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { scheduledBy } from './scheduled-by.ts';
import { scheduleOf } from './scheduling.ts';

/** How a stack stands at one moment. */
interface StatusReading {
  readonly now: Date;
  readonly status: StackStatus;
  /** Something starts what is scheduled, or nothing is. */
  readonly isStarted: boolean;
  readonly daemon: ClaimHolder | undefined;
}

/** Reads what `tars status` shows. */
export async function readStatus(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<StatusReading> {
  const now = ctx.clock.now();
  const since = await scheduleSetAt(settings, now);
  const judged = statusOf(scheduleOf(settings), runLogOf(settings), now, since);
  const isScheduled = Object.keys(judged.next).length > 0;
  const missing = isScheduled ? notStarted(await scheduledBy(settings, env, ctx)) : undefined;
  const status = missing === undefined ? judged : withNothingStarted(judged, missing);
  const daemon = await stackClaimsOf(settings).holder('daemon');
  return { now, status, isStarted: missing === undefined, daemon };
}
