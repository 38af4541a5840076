import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';
import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

const counts = counting(
  z.object({
    tenants: z.array(
      z.object({
        databases: z.array(
          z.object({ collections: z.array(z.object({ recordCount: count, vectorCount: count })) }),
        ),
      }),
    ),
  }),
  ({ tenants }) => {
    const collections = tenants.flatMap(({ databases }) =>
      databases.flatMap((database) => database.collections),
    );
    return [
      ['records', sumOf(collections, ({ recordCount }) => recordCount)],
      ['vectors', sumOf(collections, ({ vectorCount }) => vectorCount)],
    ];
  },
);

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
