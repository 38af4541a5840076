import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { TarsError } from '../../model/errors.ts';
import type { PackRequest, PackResponse } from './pack-worker.ts';
import { PackVerifier, type PackToVerify, type PackVerdict, type PackWindow } from './pack.ts';
import type { SealingKey } from '../format/crypto.ts';

/** Verifies packs one after another, each from its windows in order. */
export interface PackVerifying extends AsyncDisposable {
  start(pack: PackToVerify): Promise<void>;
  /** Takes `bytes` over. */
  feed(window: PackWindow, bytes: Uint8Array): Promise<void>;
  finish(): Promise<PackVerdict>;
}

/** In the calling thread: nothing to start, right for small repositories. */
export function verifyHere(key: SealingKey): PackVerifying {
  let verifier: PackVerifier | undefined;
  const current = (): PackVerifier => {
    if (verifier === undefined) throw new TarsError('internal', 'No pack was started');
    return verifier;
  };
  return {
    start(pack) {
      verifier = new PackVerifier(pack, key);
      return Promise.resolve();
    },
    feed(window, bytes) {
      current().feed(window, bytes);
      return Promise.resolve();
    },
    finish: () => Promise.resolve(current().finish()),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** In a thread of its own, which ends on disposal. */
export function verifyInThread(key: SealingKey): PackVerifying {
  const entry = import.meta.url.endsWith('.ts') ? './pack-worker.ts' : './pack-worker.js';
  const worker = new Worker(new URL(entry, import.meta.url), { workerData: key.material });
  const ended = new AbortController();
  worker.on('exit', () => ended.abort());
  worker.on('error', () => ended.abort());
  const ask = async (request: PackRequest, moved: ArrayBuffer[] = []): Promise<PackResponse> => {
    try {
      const answered = once(worker, 'message', { signal: ended.signal });
      worker.postMessage(request, moved);
      const [response] = (await answered) as [PackResponse];
      return response;
    } catch (cause) {
      throw new TarsError('internal', 'A thread that verifies packs ended unexpectedly', { cause });
    }
  };
  return {
    async start(pack) {
      await ask({ step: 'start', pack });
    },
    async feed(window, bytes) {
      await ask({ step: 'feed', window, bytes }, movable(bytes));
    },
    async finish() {
      const { verdict } = await ask({ step: 'finish' });
      if (verdict === undefined) throw new TarsError('internal', 'A thread verified no pack');
      return verdict;
    },
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}

/** A buffer that is nobody else's is moved to the thread instead of copied. */
function movable(bytes: Uint8Array): ArrayBuffer[] {
  const { buffer } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength ? [buffer] : [];
}
