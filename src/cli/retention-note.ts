import { runLogOf } from '../composition/index.ts';
import type { ForgetPlan, DescribedStack, StackForgetPlan } from '../operations/retention/forget.ts';
import { aheadWarning, lastRetention } from '../operations/retention/retention-state.ts';
import type { SnapshotOwner } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RetentionOutcome } from '../ports/run-log.ts';
import { ownerOf, type Settings } from '../settings/load.ts';
import type { RuleSettings } from '../settings/retention.ts';
import { flagsOfRules } from './keep-options.ts';

/** Where and by what something is to be forgotten, as far as a command has to say it. */
interface ForgetPlace {
  /** Another stack than that of tars.yaml. */
  readonly stack?: string | undefined;
  /** Another host than that of tars.yaml. */
  readonly hostname?: string | undefined;
  /** A directory of archives instead of the repository. */
  readonly outputDir?: string | undefined;
  /** Rules given as flags. */
  readonly rules?: RuleSettings | undefined;
}

/** The command that forgets although something holds that back. */
function allowShrunkCommand({ stack, hostname, outputDir, rules }: ForgetPlace): string {
  const words = [
    ...(stack === undefined ? [] : ['--stack', stack]),
    ...(hostname === undefined ? [] : ['--host', hostname]),
    ...(outputDir === undefined ? [] : ['--output-dir', outputDir]),
    ...flagsOfRules(rules ?? {}),
  ];
  return ['tars forget', ...words, '--allow-shrunk'].join(' ');
}

/** What planning a forget must know of the stack of tars.yaml. */
export function describedStack(settings: Settings): DescribedStack {
  return {
    ...ownerOf(settings),
    components: Object.keys(settings.components),
    letGo: lastRetentionOf(settings)?.letGo ?? [],
  };
}

/** Says what holds back, and what a wrong clock left. */
export function warnOfPlan(
  { stacks }: ForgetPlan,
  place: ForgetPlace,
  own: SnapshotOwner,
  ctx: OperationContext,
): void {
  for (const plan of stacks) {
    const stack = plan.stack === own.stack ? undefined : plan.stack;
    const hostname = plan.hostname === own.hostname ? undefined : plan.hostname;
    if (plan.heldBack.length > 0)
      ctx.log.warn(
        `Nothing of ${plan.stack} on ${plan.hostname} is forgotten: ${plan.heldBack.join('; ')}. If that is expected, run: ${allowShrunkCommand({ ...place, stack, hostname })}`,
      );
    for (const snapshot of plan.ahead) {
      const { found, hint } = aheadWarning(snapshot);
      ctx.log.warn(`${found}. ${hint}`);
    }
  }
}

/** What is recorded of a plan for the stack of tars.yaml by its rules. */
export function outcomeOfPlan(plan: StackForgetPlan, place: ForgetPlace): RetentionOutcome {
  const { heldBack, letGo } = plan;
  return { heldBack, command: allowShrunkCommand(place), letGo, ahead: datesOf(plan) };
}

/** What is recorded once snapshots were removed by name: what holds back is as it was. */
export function outcomeOfNamed(plan: StackForgetPlan, settings: Settings): RetentionOutcome | undefined {
  const last = lastRetentionOf(settings);
  return last === undefined ? undefined : { ...last, ahead: datesOf(plan) };
}

/** After a backup that went well, when forgetting did not. */
export function outcomeOfFailure(failure: string, settings: Settings): RetentionOutcome {
  const { heldBack = [], letGo = [], ahead = [] } = lastRetentionOf(settings) ?? {};
  return { heldBack, command: allowShrunkCommand({}), letGo, ahead, failure };
}

const datesOf = ({ ahead }: StackForgetPlan): RetentionOutcome['ahead'] =>
  ahead.map(({ id, time }) => ({ id, time }));

/** Without the record nothing is remembered, and what was let go holds back again: nothing is lost by that. */
function lastRetentionOf(settings: Settings): RetentionOutcome | undefined {
  try {
    return lastRetention(runLogOf(settings).runs());
  } catch {
    return undefined;
  }
}
