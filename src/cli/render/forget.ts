import { counted } from '../../model/plural.ts';
import { shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import type { ForgetPlan, StackForgetPlan } from '../../operations/retention/forget.ts';
import { formatTable } from './columns.ts';

export function renderForget({ stacks, location, otherHosts }: ForgetPlan, isDry: boolean): string {
  if (stacks.length === 0) return `There are no such snapshots in ${location}`;
  const others =
    otherHosts.length === 0
      ? []
      : [`Not considered: snapshots taken on ${otherHosts.join(', ')} (see --host, --all-hosts)`];
  return [
    ...stacks.map((plan) =>
      plan.decisions.length === 0
        ? `There are no snapshots of ${plan.stack} on ${plan.hostname} in ${location}`
        : renderStack(plan, isDry),
    ),
    ...others,
  ].join('\n\n');
}

function renderStack({ stack, hostname, decisions }: StackForgetPlan, isDry: boolean): string {
  const rows = decisions.map(({ snapshot, keep, reasons }) => [
    shortId(snapshot.id),
    ownTime(snapshot),
    keep ? 'keep' : 'remove',
    reasons.join(', '),
  ]);
  const gone = decisions.filter(({ keep }) => !keep).length;
  const verb = isDry ? 'would remove' : 'removed';
  return [
    formatTable(['ID', 'TIME', 'ACTION', 'WHY'], rows),
    `Stack ${stack} on ${hostname}: ${verb} ${counted(gone, 'snapshot')}, ${decisions.length - gone} kept`,
  ].join('\n');
}

/** `2026-11-24 19:02:31 +01:00`: days are counted by the clock a snapshot was written by. */
function ownTime({ time, utcOffsetMinutes }: SnapshotSummary): string {
  const wall = new Date(time.getTime() + utcOffsetMinutes * 60_000).toISOString();
  const minutes = Math.abs(utcOffsetMinutes);
  const offset = new Date(minutes * 60_000).toISOString().slice(11, 16);
  return `${wall.slice(0, 10)} ${wall.slice(11, 19)} ${utcOffsetMinutes < 0 ? '-' : '+'}${offset}`;
}
