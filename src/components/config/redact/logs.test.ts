import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { redactFiles } from './index.ts';

/** Logs as servers write them; `⟦…⟧` is around secrets, `¦` joins halves of tokens, as in secret-corpus.txt. */
const logs = readFileSync(new URL('../../../../test/fixtures/server-logs.txt', import.meta.url), 'utf8')
  .replaceAll(/[¦⟪⟫]/g, '')
  .split(/^@@ .*\n/m)
  .slice(1);

const redactLog = (text: string, known: readonly string[] = []): string =>
  redactFiles([{ name: 'service.log', text, form: 'log' }], known)[0] ?? '';

test('logs of servers show no secret, and what holds none is unchanged', () => {
  let [secrets, ordinary] = [0, 0];
  for (const log of logs) {
    const wanted = log.split('\n');
    const shown = redactLog(log.replaceAll(/[⟦⟧]/g, '')).split('\n');
    assert.equal(shown.length, wanted.length);
    for (const [i, line] of wanted.entries()) {
      const planted = [...line.matchAll(/⟦([^⟧]*)⟧/g)].map(([, secret = '']) => secret);
      for (const secret of planted.filter((each) => each !== '|'))
        assert.ok(!shown[i]?.includes(secret), `${secret}: ${shown[i] ?? ''}`);
      if (planted.length === 0) assert.equal(shown[i], line);
      secrets += planted.length;
      ordinary += planted.length === 0 && line !== '' ? 1 : 0;
    }
  }
  assert.ok(secrets >= 60, `${secrets} secrets`);
  assert.ok(ordinary >= 40, `${ordinary} ordinary lines`);
});

test('a known secret is found where a line break or a prefix divides it', () => {
  const known = ['Zq7-divided-Secret'];
  for (const log of [
    'value Zq7-divi\nded-Secret of it',
    'api_1 | value Zq7-divi\napi_1 | ded-Secret of it',
    '2026-11-24T03:00:00Z Zq7-\n2026-11-24T03:00:00Z divided-\n2026-11-24T03:00:00Z Secret',
    'value Zq7-divi\\\n    ded-Secret',
  ]) {
    const shown = redactLog(log, known);
    assert.doesNotMatch(shown, /Zq7|divi|ded-|Secret/);
    assert.equal(shown.split('\n').length, log.split('\n').length);
  }
  assert.equal(redactLog('value Zq7-divi\nother words', known), 'value Zq7-divi\nother words');
});

test('a private key without its beginning or its end is hidden, and a certificate is not', () => {
  const body = ['MIIEowIBAAKCAQEAx7Yk2n9QmZ0', 'abcdEFGH'];
  const end = '-----END RSA PRIVATE' + ' KEY-----';
  const begin = '-----BEGIN RSA PRIVATE' + ' KEY-----';
  for (const log of [
    [...body, end],
    [begin, ...body],
    [begin, ...body, end],
  ]) {
    const shown = redactLog(
      ['api_1 | before', ...log.map((line) => `api_1 | ${line}`), 'api_1 | after it'].join('\n'),
    );
    for (const line of log) assert.ok(!shown.includes(line), shown);
    assert.match(shown, /^api_1 \| before\n[\s\S]*\napi_1 \| after it$/);
  }
  const certificate = [
    '-----BEGIN CERTIFICATE-----',
    'MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa',
    '-----END CERTIFICATE-----',
  ].join('\n');
  assert.equal(redactLog(certificate), certificate);
});

test('a report keeps its structure, and each of its texts is judged as a log', () => {
  const report = {
    check: 'store postgres',
    found: 'The server says: NEXTAUTH_SECRET is nx-aS3cret',
    'redis://:pw-in-Key9@h': 1,
    keys: 2,
    id: '4f1c8b0a',
  };
  const [shown = ''] = redactFiles(
    [{ name: 'doctor.json', text: JSON.stringify(report), form: 'report' }],
    [],
  );
  assert.deepEqual(JSON.parse(shown), {
    check: 'store postgres',
    found: 'The server says: NEXTAUTH_SECRET is [redacted]',
    'redis://:[redacted]@h': 1,
    keys: 2,
    id: '4f1c8b0a',
  });
});
