import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';
import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

const counts = counting(
  z.object({ content: z.object({ databases: z.array(z.object({ keys: count })) }) }),
  ({ content }) => [['keys', sumOf(content.databases, ({ keys }) => keys)]],
);

export const redisKind = defineKind({
  name: 'redis',
  settings,
  places: {
    paths: ({ data_dir: path }) =>
      path === undefined ? [] : [{ path, isFile: false, isRead: false, restoredBy: 'write' }],
    leavesOut: 'whole',
    scratch: 'all',
  },
  recovery,
  counts,
  machine,
  container,
  adapter: async () => (await import('./build.ts')).build,
});
