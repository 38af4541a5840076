import type { Finding } from '../../model/finding.ts';
import { counted } from '../../model/plural.ts';
import type { CheckReport } from '../../ports/snapshot-store.ts';
import { formatBytes } from './units.ts';

/** How much of a repository was looked at, and that none of it is damaged. */
export function renderSound({ snapshots, packs, blobs, readBytes }: CheckReport, readData: boolean): string {
  const extent = readData
    ? `every byte of ${formatBytes(readBytes)} was read`
    : 'structure only; --read-data reads every byte';
  return `No damage: ${counted(snapshots, 'snapshot')}, ${counted(packs, 'pack')}, ${counted(blobs, 'blob')} (${extent})`;
}

/** What was found in all, and the steps that repair it. */
export function renderDamage(findings: readonly Finding[], steps: readonly string[]): string {
  return [verdictOn(findings), ...steps.map((step, index) => `  ${index + 1}. ${step}`)].join('\n');
}

const isUnreadable = ({ code }: Finding): boolean =>
  code.endsWith('-unreadable') || code === 'listing-failed';

/** What could not be read is not called damaged. */
function verdictOn(findings: readonly Finding[]): string {
  const errors = findings.filter(({ severity }) => severity === 'error');
  const unreadable = errors.filter(isUnreadable).length;
  const damaged = errors.length - unreadable;
  if (damaged === 0)
    return `Not checked completely: ${counted(unreadable, 'file')} could not be read, listed above`;
  const more = unreadable === 0 ? '' : `; ${counted(unreadable, 'file')} could not be read`;
  return `Damaged: ${counted(damaged, 'error')}, listed above${more}`;
}
