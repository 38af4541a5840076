import { defineKind } from '../../ports/kind.ts';
import { counts } from './counts.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

export const configKind = defineKind({
  name: 'config',
  settings,
  places: {
    paths: ({ files }) => files.map((path) => ({ path, isFile: true, isRead: true, restoredBy: 'replace' })),
    leavesOut: 'files',
  },
  recovery,
  counts,
  adapter: async () => (await import('./build.ts')).build,
});
