import { hasErrors, type Finding } from '../../model/finding.ts';

/** How a repository with damaged packs becomes whole again; docs/BACKUP_RECOVERY.md has it at more length. */
const healingSteps: readonly string[] = [
  'If a copy of the repository has an undamaged file of that name, copy it back, then run tars check --read-data again.',
  'Run tars backup: it stores the data that it needs from these packs again, if the stack still holds it.',
  'Run tars check --read-data: it names the snapshots that still cannot be restored completely, and their files. Restore from them now whatever you need, then remove them with tars forget <id>.',
  'Run tars prune: it copies undamaged data out of damaged packs, and only then removes these packs.',
];

/** What is left to do with a portable archive that is damaged: nothing in it can be repaired. */
const archiveSteps: readonly string[] = [
  'Check another copy of the archive, or another archive, with: tars check --backup-file FILE',
  'If all of them are damaged, restore from the repository: tars snapshots lists what it holds.',
];

const damagesPacks = new Set(['pack-missing', 'pack-size-differs', 'pack-damaged', 'tree-damaged']);

/** What repairs a repository in which `findings` were found; empty when nothing in it is to be repaired. */
export const stepsToHeal = (findings: readonly Finding[]): readonly string[] =>
  findings.some(({ code }) => damagesPacks.has(code)) ? healingSteps : [];

/** What to do about an archive in which `findings` were found; empty when it is sound. */
export const stepsForArchive = (findings: readonly Finding[]): readonly string[] =>
  hasErrors(findings) ? archiveSteps : [];
