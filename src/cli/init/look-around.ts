import { access } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { homeDirectory } from '../../disk/home.ts';
import type { Environment } from '../../settings/load.ts';
import type { TemplateValues } from '../../settings/template.ts';

/** How long a local port may take to answer, in milliseconds. */
const probeTimeoutMs = 500;

/** What answers on this machine. */
export type LocalStores = Pick<TemplateValues, 'found' | 'ollamaPath'>;

/** Looks at the usual ports and places. */
export async function lookAround(env: Environment): Promise<LocalStores> {
  const ollamaPath = await findModelStore(env);
  const found = await findStores();
  return {
    found: ollamaPath === undefined ? found : new Set([...found, 'ollama'] as const),
    ollamaPath: ollamaPath ?? '/usr/share/ollama/.ollama/models',
  };
}

async function findStores(): Promise<ReadonlySet<'postgres' | 'redis' | 'chroma'>> {
  const ports = { postgres: 5432, redis: 6379, chroma: 8000 } as const;
  const names = ['postgres', 'redis', 'chroma'] as const;
  const answers = await Promise.all(names.map((name) => listens(ports[name])));
  return new Set(names.filter((_, position) => answers[position] === true));
}

function listens(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: probeTimeoutMs });
    const finish = (answer: boolean) => (): void => {
      socket.destroy();
      done(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false)).once('timeout', finish(false));
  });
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
