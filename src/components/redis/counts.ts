import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';

export const counts = counting(
  z.object({ content: z.object({ databases: z.array(z.object({ keys: count })) }) }),
  ({ content }) => [['keys', sumOf(content.databases, ({ keys }) => keys)]],
);
