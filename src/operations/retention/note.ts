import type { SnapshotOwner } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RetentionOutcome, RunLog } from '../../ports/run-log.ts';
import type { ForgetPlan, StackForgetPlan } from './forget.ts';
import { aheadWarning, lastRetention } from './retention-state.ts';

/** The command that forgets although something holds that back; of another stack or host where one is given. */
export type CommandAnyway = (other: {
  readonly stack?: string | undefined;
  readonly hostname?: string | undefined;
}) => string;

/** Says what holds back, and what a wrong clock left. */
export function warnOfPlan(
  { stacks }: ForgetPlan,
  own: SnapshotOwner,
  command: CommandAnyway,
  ctx: OperationContext,
): void {
  for (const { stack, hostname, heldBack, ahead } of stacks) {
    const other = {
      stack: stack === own.stack ? undefined : stack,
      hostname: hostname === own.hostname ? undefined : hostname,
    };
    if (heldBack.length > 0)
      ctx.log.warn(
        `Nothing of ${stack} on ${hostname} is forgotten: ${heldBack.join('; ')}. If that is expected, run: ${command(other)}`,
      );
    for (const snapshot of ahead) {
      const { found, hint } = aheadWarning(snapshot);
      ctx.log.warn(`${found}. ${hint}`);
    }
  }
}

/** What is recorded of a plan for the stack of tars.yaml by its rules. */
export const outcomeOfPlan = (plan: StackForgetPlan, command: CommandAnyway): RetentionOutcome => ({
  heldBack: plan.heldBack,
  command: command({}),
  letGo: plan.letGo,
  ahead: datesOf(plan),
});

/** What is recorded once snapshots were removed by name: what holds back is as it was. */
export const outcomeOfNamed = (
  plan: StackForgetPlan,
  last: RetentionOutcome | undefined,
): RetentionOutcome | undefined => last && { ...last, ahead: datesOf(plan) };

/** After a backup that went well, when forgetting did not. */
export const outcomeOfFailure = (
  failure: string,
  last: RetentionOutcome | undefined,
  command: CommandAnyway,
): RetentionOutcome => ({
  ...(last ?? { heldBack: [], command: command({}), letGo: [], ahead: [] }),
  failure,
});

const datesOf = ({ ahead }: StackForgetPlan): RetentionOutcome['ahead'] =>
  ahead.map(({ id, time }) => ({ id, time }));

/** Without the record nothing is remembered, and what was let go holds back again: nothing is lost by that. */
export function recordedRetention(runLog: RunLog): RetentionOutcome | undefined {
  try {
    return lastRetention(runLog.runs());
  } catch {
    return undefined;
  }
}
