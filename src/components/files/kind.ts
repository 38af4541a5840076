import { artifactTotals } from '../../model/artifact-list.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { Amount } from '../../model/shrinkage.ts';
import { defineKind } from '../../ports/kind.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

/** Every file of a directory is an artifact; of what failed nothing is known. */
const counts = (component: ComponentManifest): readonly Amount[] =>
  component.outcome === 'captured' ? [['files', artifactTotals(component).count]] : [];

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
  adapter: async () => (await import('./build.ts')).build,
});
