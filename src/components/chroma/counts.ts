import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';

export const counts = counting(
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
