import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';
import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

const counts = counting(
  z.object({
    databases: z.array(
      z.object({
        content: z.object({
          tables: z.array(z.object({ rows: count })),
          largeObjects: z.object({ count }),
        }),
      }),
    ),
  }),
  ({ databases }) => [
    ['rows', sumOf(databases, ({ content }) => sumOf(content.tables, ({ rows }) => rows))],
    ['large objects', sumOf(databases, ({ content }) => content.largeObjects.count)],
  ],
);

export const postgresKind = defineKind({
  name: 'postgres',
  settings,
  // Everything goes through its server, wherever its files are.
  places: { paths: () => [], leavesOut: 'whole', scratch: 'archives' },
  recovery,
  counts,
  machine,
  container,
  adapter: async () => (await import('./build.ts')).build,
});
