import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerSketch } from '../../ports/kind.ts';
import { container } from './container.ts';

test('whether it asks for a password is known from its command, from its answer, or not at all', async () => {
  const sketch: ContainerSketch = { image: 'redis:7', environment: {}, argv: ['redis-server'] };
  const told = (answer: string, more: Partial<ContainerSketch> = {}) =>
    container.recognition.password?.({ ...sketch, ...more }, () => Promise.resolve(answer));
  assert.equal(await told('', { argv: ['redis-server', '--requirepass', 'x'] }), 'known');
  assert.equal(await told('-NOAUTH Authentication required.\r\n'), 'needed');
  assert.equal(await told('+PONG\r\n'), 'none');
  assert.equal(await told('-DENIED Redis is running in protected mode'), 'none');
  assert.equal(await told(''), 'unknown', 'it does not answer yet');
  assert.equal(await told('-LOADING Redis is loading the dataset in memory\r\n'), 'none');
});
