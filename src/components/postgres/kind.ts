import { defineKind } from '../../ports/kind.ts';
import { container } from './container.ts';
import { counts } from './counts.ts';
import { machine } from './machine.ts';
import { recovery } from './recovery.ts';
import { settings } from './settings.ts';

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
