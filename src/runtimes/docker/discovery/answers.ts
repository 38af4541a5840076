import { connect } from 'node:net';
import { throwIfAborted } from '../../../model/abort.ts';
import type { PasswordQuestion, ServerQuestions } from '../../../ports/kind.ts';
import type { ServerAddress } from '../../../ports/store-place.ts';
import { addressOf } from '../project/places.ts';
import type { ProjectContainer } from '../project/project.ts';
import type { StoreTraits } from './recognise.ts';

/** A store on the same machine answers at once. */
const answerMaxMs = 1000;
const answerBytesMax = 4096;

/** Which store answers on its usual port in a running container; undefined for none. */
export async function whatAnswers(
  container: ProjectContainer,
  stores: readonly StoreTraits[],
  signal: AbortSignal,
): Promise<StoreTraits | undefined> {
  const ask: ServerQuestions = {
    say: (address, bytes) => say(address, bytes, signal),
    json: (address, path) => json(address, path, signal),
  };
  for (const store of stores) {
    const address = addressOf(container, store.port);
    if (address === undefined) return undefined;
    if (await store.answers(address, ask)) return store;
    throwIfAborted(signal);
  }
  return undefined;
}

/** Asks the server at a port of the container, as far as there is one. */
export function questionTo(
  container: ProjectContainer | undefined,
  port: number,
  signal: AbortSignal,
): PasswordQuestion {
  const address = container === undefined ? undefined : addressOf(container, port);
  return (bytes) => (address === undefined ? Promise.resolve('') : say(address, bytes, signal));
}

/** What a server first answers to `text`; nothing when it does not. */
function say({ host, port }: ServerAddress, text: string | Uint8Array, signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal, timeout: answerMaxMs });
    const finish = (answer: string) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket
      .once('connect', () => socket.write(text))
      .once('data', (data) => finish(data.subarray(0, answerBytesMax).toString('latin1'))())
      .once('error', finish(''))
      .once('timeout', finish(''))
      .once('close', finish(''));
  });
}

/** The JSON at a path of an HTTP server; undefined when there is none. */
async function json({ host, port }: ServerAddress, path: string, signal: AbortSignal): Promise<unknown> {
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(answerMaxMs)]);
    const response = await fetch(`http://${host}:${port}${path}`, { signal: within, redirect: 'error' });
    if (!response.ok) {
      await response.body?.cancel();
      return undefined;
    }
    return await response.json();
  } catch {
    return undefined;
  }
}
