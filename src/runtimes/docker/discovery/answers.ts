import { connect } from 'node:net';
import { z } from 'zod';
import { throwIfAborted } from '../../../model/abort.ts';
import { addressOf } from '../project/places.ts';
import type { ProjectContainer } from '../project/project.ts';
import { storeKinds, storePorts, type StoreKind } from './recognise.ts';

/** A store on the same machine answers at once. */
const answerMaxMs = 1000;
const answerBytesMax = 4096;

/** Which store answers on its usual port in a running container; undefined for none. */
export async function whatAnswers(
  container: ProjectContainer,
  signal: AbortSignal,
): Promise<StoreKind | undefined> {
  for (const kind of storeKinds) {
    const address = addressOf(container, storePorts[kind]);
    if (address === undefined) return undefined;
    if (await questions[kind](address, signal)) return kind;
    throwIfAborted(signal);
  }
  return undefined;
}

/** Whether the Redis there wants a password; undefined when none answers. */
export async function redisWantsPassword(
  container: ProjectContainer,
  port: number,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const address = addressOf(container, port);
  const answer = address === undefined ? '' : await say(address, 'PING\r\n', signal);
  if (/^-NOAUTH/.test(answer)) return true;
  return /^\+PONG/.test(answer) ? false : undefined;
}

interface Address {
  readonly host: string;
  readonly port: number;
}

const questions: Readonly<Record<StoreKind, (address: Address, signal: AbortSignal) => Promise<boolean>>> = {
  // An SSLRequest (PostgreSQL's "Message Formats") is answered by one letter.
  postgres: async (address, signal) =>
    /^[SN]$/.test(await say(address, Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]), signal)),
  redis: async (address, signal) => /^(\+PONG|-NOAUTH|-DENIED)/.test(await say(address, 'PING\r\n', signal)),
  chroma: async (address, signal) => {
    const heartbeat = z.object({ 'nanosecond heartbeat': z.number() });
    for (const version of ['v2', 'v1'])
      if (heartbeat.safeParse(await ask(address, `/api/${version}/heartbeat`, signal)).success) return true;
    return false;
  },
  ollama: async (address, signal) =>
    z.object({ models: z.array(z.unknown()).nullable() }).safeParse(await ask(address, '/api/tags', signal))
      .success,
};

/** What a server first answers to `text`; nothing when it does not. */
function say({ host, port }: Address, text: string | Uint8Array, signal: AbortSignal): Promise<string> {
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
async function ask({ host, port }: Address, path: string, signal: AbortSignal): Promise<unknown> {
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
