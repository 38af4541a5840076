import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';

export const counts = counting(
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
