import { connect } from 'node:net';
import { join } from 'node:path';
import { isVisible } from '../../disk/is-there.ts';
import { proposeStores } from '../../composition/index.ts';
import type { Environment } from '../../model/environment.ts';
import type { PortProbe } from '../../ports/kind.ts';
import type { TemplateValues } from '../../settings/template.ts';

/** What answers on this machine. */
export type LocalStores = Pick<TemplateValues, 'proposals'>;

/** How long a local server may take to answer, in milliseconds. */
const probeTimeoutMs = 500;

/** Looks at the usual ports and places. */
export const lookAround = async (env: Environment): Promise<LocalStores> => ({
  proposals: await proposeStores(env, listens),
});

/** See {@link PortProbe}. */
export const listens: PortProbe = (place) => {
  if ('port' in place && place.port === 0) return Promise.resolve(false);
  return new Promise((done) => {
    const where = 'port' in place ? { host: '127.0.0.1', port: place.port } : { path: place.socket };
    const socket = connect({ ...where, timeout: probeTimeoutMs });
    const finish = (answer: boolean) => (): void => {
      socket.destroy();
      done(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false)).once('timeout', finish(false));
  });
};

/** Whether a repository was created in that directory. */
export const holdsRepository = (path: string): Promise<boolean> => isVisible(join(path, 'config'));
