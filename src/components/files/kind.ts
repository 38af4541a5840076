import { posix } from 'node:path';
import { artifactTotals } from '../../model/artifact-list.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { Amount } from '../../model/shrinkage.ts';
import { defineKind, type InnerDatabase } from '../../ports/kind.ts';
import { readTreesFacts, type CapturedDatabase, type CapturedTree } from './facts.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

/** Facts that do not fit describe nothing. */
const treesOf = ({ outcome, facts }: ComponentManifest): readonly CapturedTree[] =>
  outcome === 'captured' ? (readTreesFacts(facts)?.trees ?? []) : [];

/** Every file of a directory is an artifact; of what failed nothing is known. */
function counts(component: ComponentManifest): readonly Amount[] {
  if (component.outcome !== 'captured') return [];
  const tables = treesOf(component).flatMap(({ databases = [] }) => databases.flatMap((each) => each.tables));
  const rows = tables.reduce((sum, table) => sum + (table.rows ?? 0), 0);
  return [['files', artifactTotals(component).count], ...(rows > 0 ? [['rows', rows] as const] : [])];
}

const states: Readonly<Record<CapturedDatabase['check'], string>> = {
  integrity: 'checked',
  quick: 'checked',
  failed: 'damaged',
  none: 'not checked',
};

const databases = (component: ComponentManifest): readonly InnerDatabase[] =>
  treesOf(component).flatMap((tree) =>
    (tree.databases ?? []).map(({ path, sizeBytes, journal, check, problem, tables, tableCount }) => ({
      ...{ path: posix.join(tree.path, path), sizeBytes, tables, tableCount },
      format: journal === 'wal' ? 'SQLite, WAL' : 'SQLite',
      state: problem === undefined ? states[check] : `${states[check]}: ${problem}`,
    })),
  );

export const filesKind = defineKind({
  name: 'files',
  settings,
  places: {
    paths: ({ paths = [] }) =>
      paths.map((path) => ({ path, isFile: false, isRead: true, restoredBy: 'exchange' })),
    leavesOut: 'parts',
    inside: ({ inside: path, exclude }) =>
      path === undefined ? undefined : { path, isWhole: exclude.length === 0 },
  },
  recovery,
  counts,
  databases,
  adapter: async () => (await import('./build.ts')).build,
});
