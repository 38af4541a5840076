import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { counts } from './counts.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

export const chromaKind = defineKind({
  name: 'chroma',
  settings,
  places: {
    paths: ({ path }) =>
      path === undefined ? [] : [{ path, isFile: false, isRead: true, restoredBy: 'replace' }],
    leavesOut: 'whole',
    scratch: 'all',
  },
  recovery,
  counts,
  machine,
  container,
  adapter: async () => (await import('./build.ts')).build,
});
