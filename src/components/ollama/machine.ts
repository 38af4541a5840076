import { join } from 'node:path';
import { homeDirectory } from '../../disk/home.ts';
import { statIfThere } from '../../disk/is-there.ts';
import type { Environment } from '../../model/environment.ts';
import type { MachineSlot } from '../../ports/kind.ts';

const systemHome = '/usr/share/ollama';

export const machine: MachineSlot = {
  async propose(env) {
    const path = await findModelStore(env);
    return { isFound: path !== undefined, lines: linesFor(path ?? storeIn(systemHome)) };
  },
};

const storeIn = (home: string): string => join(home, '.ollama/models');

async function findModelStore(env: Environment): Promise<string | undefined> {
  for (const home of [systemHome, homeDirectory(env)]) {
    if (home === undefined) continue;
    const path = storeIn(home);
    const manifests = await statIfThere(join(path, 'manifests')).catch(() => undefined);
    if (manifests !== undefined) return path;
  }
  return undefined;
}

const linesFor = (path: string): readonly string[] => [
  'ollama:',
  `  path: ${JSON.stringify(path)}`,
  '  models: list                          # none | list (names to pull again) | all',
  '  # service: ollama',
];
