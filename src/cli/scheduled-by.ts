import { schedulerFor, stackClaimsOf, systemdRuns } from '../composition/index.ts';
import { toTarsError } from '../model/errors.ts';
import type { Scheduled } from '../operations/schedule/scheduled.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { requirePortable, scheduledStack } from './scheduling.ts';

/** By whichever of systemd, cron and a daemon has it. */
export async function scheduledBy(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<Scheduled> {
  const lacks = await requirePortable(settings, env).then(
    () => undefined,
    (cause: unknown) => toTarsError(cause, 'A scheduled run may lack something'),
  );
  const systemd = systemdRuns()
    ? [schedulerFor('systemd', { user: false }), schedulerFor('systemd', { user: true })]
    : [];
  const found = await Promise.all(
    [...systemd, schedulerFor('cron', { user: false })].map(async (scheduler) => {
      try {
        const { state, leftovers } = await scheduler.planInstall(scheduledStack(settings), ctx);
        return { state, by: scheduler.name, leftovers, runs: await scheduler.runs() };
      } catch {
        // It is not here, or cannot say this schedule: then it has none of it.
        return { state: 'absent' as const, by: undefined, leftovers: [], runs: false };
      }
    }),
  );
  const leftovers = [...new Set(found.flatMap((each) => each.leftovers))];
  const daemon = await stackClaimsOf(settings).holder('daemon');
  if (daemon !== undefined)
    return { state: 'installed', runs: true, by: `tars ${daemon.verb}`, leftovers, lacks: undefined };
  const best =
    found.find(({ state, runs }) => state === 'installed' && runs) ??
    found.find(({ state }) => state === 'installed') ??
    found.find(({ state }) => state === 'differs');
  return { state: best?.state ?? 'absent', runs: best?.runs ?? false, by: best?.by, leftovers, lacks };
}
