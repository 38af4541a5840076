import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';

export const counts = counting(
  z.object({ models: z.array(z.object({ blobs: z.array(z.object({ sizeBytes: count })) })) }),
  ({ models }) => [
    ['models', models.length],
    ['bytes of models', sumOf(models, ({ blobs }) => sumOf(blobs, ({ sizeBytes }) => sizeBytes))],
  ],
);
