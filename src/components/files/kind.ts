import { defineKind } from '../../ports/kind.ts';
import { counts } from './counts.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

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
