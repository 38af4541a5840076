import { z } from 'zod';
import { count, counting, sumOf } from '../counting.ts';
import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

const counts = counting(
  z.object({ models: z.array(z.object({ blobs: z.array(z.object({ sizeBytes: count })) })) }),
  ({ models }) => [
    ['models', models.length],
    ['bytes of models', sumOf(models, ({ blobs }) => sumOf(blobs, ({ sizeBytes }) => sizeBytes))],
  ],
);

export const ollamaKind = defineKind({
  name: 'ollama',
  settings,
  places: {
    paths: ({ path }) =>
      path === undefined ? [] : [{ path, isFile: false, isRead: true, restoredBy: 'write' }],
    leavesOut: 'whole',
  },
  recovery,
  counts,
  machine,
  container,
  adapter: async () => (await import('./build.ts')).build,
});
