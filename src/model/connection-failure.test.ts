import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { connectionFailure } from './connection-failure.ts';

async function failureOf(attempt: () => Promise<unknown>): Promise<string> {
  return attempt().then(
    () => 'it answered',
    (error: unknown) => connectionFailure(error),
  );
}

test('why nothing answers is said in words, also by the cause of a fetch', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const { port } = address;
  server.close();
  await once(server, 'close');
  const nothing = 'nothing listens there (ECONNREFUSED)';
  assert.equal(await failureOf(() => fetch(`http://127.0.0.1:${port}`)), nothing);
  // Where localhost has two addresses, the error of both has no text of its own.
  assert.equal(await failureOf(() => once(connect(port, 'localhost'), 'connect')), nothing);
  assert.match(
    await failureOf(() => once(connect('/nowhere/socket'), 'connect')),
    /the socket does not exist/,
  );

  const said: [string, RegExp][] = [
    ['ENOTFOUND', /its name is not known/],
    ['EAI_AGAIN', /its name cannot be resolved/],
    ['ETIMEDOUT', /it did not answer in time/],
    ['EHOSTUNREACH', /the network cannot reach it/],
    ['ECONNRESET', /closed the connection/],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', /certificate/],
    ['ERR_SSL_WRONG_VERSION_NUMBER', /^TLS failed/],
  ];
  for (const [code, expected] of said) {
    const cause = Object.assign(new Error('x'), { code });
    assert.match(connectionFailure(new TypeError('fetch failed', { cause })), expected);
  }
  assert.match(
    connectionFailure(AbortSignal.timeout(0).reason ?? new DOMException('', 'TimeoutError')),
    /time/,
  );
  assert.equal(connectionFailure(new Error('something else')), 'something else');
});
