import { z } from 'zod';
import { counting } from '../counting.ts';
import { defineKind } from '../../ports/kind.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

const counts = counting(z.object({ files: z.array(z.unknown()) }), ({ files }) => [['files', files.length]]);

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
