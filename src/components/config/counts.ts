import { z } from 'zod';
import { counting } from '../counting.ts';

export const counts = counting(z.object({ files: z.array(z.unknown()) }), ({ files }) => [
  ['files', files.length],
]);
