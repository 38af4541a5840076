import { parentPort, workerData } from 'node:worker_threads';
import { PackVerifier, type PackToVerify, type PackVerdict, type PackWindow } from './pack.ts';
import { SealingKey, type KeyMaterial } from '../format/crypto.ts';
import { freeBuffer } from '../seal/free-buffer.ts';

/** What the main thread asks of a pack-verifying thread, one pack after another; each is answered. */
export type PackRequest =
  | { readonly step: 'start'; readonly pack: PackToVerify }
  | { readonly step: 'feed'; readonly window: PackWindow; readonly bytes: Uint8Array }
  | { readonly step: 'finish' };

/** The answer to `finish` carries the verdict. */
export interface PackResponse {
  readonly verdict: PackVerdict | undefined;
}

const port = parentPort;
if (port === null) throw new Error('This module runs as a worker thread');
const key = new SealingKey(workerData as KeyMaterial);
let verifier: PackVerifier | undefined;

function answer(request: PackRequest): PackVerdict | undefined {
  switch (request.step) {
    case 'start':
      verifier = new PackVerifier(request.pack, key);
      return undefined;
    case 'feed':
      verifier?.feed(request.window, request.bytes);
      freeBuffer(request.bytes);
      return undefined;
    case 'finish':
      return verifier?.finish();
  }
}

port.on('message', (request: PackRequest) => {
  port.postMessage({ verdict: answer(request) } satisfies PackResponse);
});
