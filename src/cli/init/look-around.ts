import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { homeDirectory } from '../../disk/home.ts';
import type { Environment } from '../../model/environment.ts';
import type { TemplateValues } from '../../settings/template.ts';
import { findRedis, listens } from './redis-config.ts';

/** What answers on this machine. */
export type LocalStores = Pick<TemplateValues, 'found' | 'ollamaPath' | 'redis'>;

/** Looks at the usual ports and places. */
export async function lookAround(env: Environment): Promise<LocalStores> {
  const ollamaPath = await findModelStore(env);
  const redis = await findRedis();
  const found = new Set<'postgres' | 'redis' | 'chroma' | 'ollama'>(await findStores());
  if (redis !== undefined) found.add('redis');
  if (ollamaPath !== undefined) found.add('ollama');
  return {
    found,
    redis,
    ollamaPath: ollamaPath ?? '/usr/share/ollama/.ollama/models',
  };
}

async function findStores(): Promise<ReadonlySet<'postgres' | 'redis' | 'chroma'>> {
  const ports = { postgres: 5432, redis: 6379, chroma: 8000 } as const;
  const names = ['postgres', 'redis', 'chroma'] as const;
  const answers = await Promise.all(names.map((name) => listens({ port: ports[name] })));
  return new Set(names.filter((_, position) => answers[position] === true));
}

async function findModelStore(env: Environment): Promise<string | undefined> {
  for (const home of ['/usr/share/ollama', homeDirectory(env)]) {
    if (home === undefined) continue;
    const path = join(home, '.ollama/models');
    if (await exists(join(path, 'manifests'))) return path;
  }
  return undefined;
}

/** Whether a repository was created in that directory. */
export const holdsRepository = (path: string): Promise<boolean> => exists(join(path, 'config'));

/** Whether there is anything at the path, as far as this user can see. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
