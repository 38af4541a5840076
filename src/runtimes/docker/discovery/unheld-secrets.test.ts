import assert from 'node:assert/strict';
import { test } from 'node:test';
import { looksLikeKey, secretVariables } from './unheld-secrets.ts';

test('variables that look like keys, and that neither the image nor a captured file has', () => {
  const environment = {
    ...{ N8N_ENCRYPTION_KEY: 'quiet-harbour-12', DB_PASSWORD: 'Tulip77basin', GPG_KEY: 'A035C8C19219BA82' },
    ...{ SHELL_SECRET: 'from-the-shell', PIN_SECRET: '1234', MODE: 'production-mode' },
  };
  const held = {
    texts: ['POSTGRES_PASSWORD="Tulip77basin"\n'],
    values: new Set(['from-the-shell']),
    isSecret: (name: string) => /KEY|PASSWORD|SECRET/.test(name),
  };
  const ofImage = { GPG_KEY: 'A035C8C19219BA82' };
  assert.deepEqual(secretVariables({ service: 'n8n', environment }, ofImage, held), [
    'N8N_ENCRYPTION_KEY of n8n',
  ]);
});

test('files that are called like keys', () => {
  const keys = [
    ...['.env', '.env.production', 'pgsodium_root.key', 'privkeys/1/private.pem', '.webui_secret_key'],
    ...['encryption.key', 'comkey/ipc-priv.pem'],
  ];
  for (const path of keys) assert.ok(looksLikeKey('/data', path), path);
  for (const path of ['.env.example', 'env.md', 'keys', 'monkey', 'config', 'a.keyboard'])
    assert.ok(!looksLikeKey('/data', path), path);
  assert.ok(looksLikeKey('/v/p_n8n_storage/_data', 'config'));
});
