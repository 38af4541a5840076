import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { tars } from '../fixtures/cli.ts';
import { TreeStack } from '../fixtures/tree-stack.ts';

const root = await mkdtemp(join(tmpdir(), 'tars-files-secrets-'));
after(() => rm(root, { recursive: true, force: true }));

const secrets: Readonly<Record<string, string>> = {
  '.env': 'POSTGRES_PASSWORD=vX9-planted-1\n',
  '.env.production': 'API_TOKEN=vX9-planted-2\n',
  'secrets/database': 'vX9-planted-3\n',
  'n8n/config': '{"encryptionKey": "vX9planted4aB7cD9eF1gH"}\n',
  'ssh/id_ed25519': 'vX9-planted-5\n',
  'tls/server.pem': '-----BEGIN PRIVATE KEY-----\nvX9planted6\n-----END PRIVATE KEY-----\n',
};
const ordinary: Readonly<Record<string, string>> = {
  'notes.txt': 'what a token is\n',
  'tls/public.pem': '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
  'app.yaml': 'port: 8080\n',
  'data.json': '{"token": "of a sentence"}\n',
};

test('an archive of the project directory has no file with secrets, names those, and its restore keeps them', async () => {
  const project = join(root, 'project');
  const [archives, opened] = [join(root, 'archives'), join(root, 'opened')];
  for (const folder of ['secrets', 'n8n', 'ssh', 'tls'])
    await mkdir(join(project, folder), { recursive: true });
  await mkdir(opened);
  for (const [name, text] of Object.entries({ ...secrets, ...ordinary }))
    await writeFile(join(project, name), text);
  await writeFile(join(project, 'tars.key'), 'planted recovery key 7\n', { mode: 0o600 });
  await writeFile(
    join(project, 'tars.yaml'),
    'version: 1\nstack: s\nrepository: {path: repository, password_file: tars.key}\nstate_dir: state\nscratch_dir: scratch\ncomponents:\n  project: {kind: files, paths: [.]}\n',
    { mode: 0o600 },
  );
  const config = ['--config', join(project, 'tars.yaml')];
  // Nothing but its other name says what this is.
  await link(join(project, '.env'), join(project, 'innocent'));
  // Another name, of which the path tells nothing.
  await link(join(project, 'tars.key'), join(project, 'copy.txt'));
  const backup = await tars([...config, 'backup', '--output-dir', archives]);
  assert.equal(backup.exitCode, 0, backup.stderr);
  const file = (await readdir(archives)).find((name) => name.endsWith('.tar.gz')) ?? '';
  execFileSync('tar', ['-xzf', join(archives, file), '-C', opened]);
  const content = execFileSync('grep', ['-rhs', '', opened]).toString();
  assert.doesNotMatch(content, /vX9-?planted|planted recovery key/);
  const names = execFileSync('find', [opened, '-type', 'f', '-printf', '%P\n']).toString();
  for (const name of Object.keys(ordinary)) assert.ok(names.includes(`/${name}\n`), name);
  assert.doesNotMatch(names, /tars\.(?:yaml|key)|copy\.txt|innocent/);
  const manifest = execFileSync('find', [
    opened,
    '-name',
    'manifest.json',
    '-exec',
    'cat',
    '{}',
    ';',
  ]).toString();
  for (const name of Object.keys(secrets)) {
    assert.ok(backup.stderr.includes(name), `${name} is not named: ${backup.stderr}`);
    assert.ok(manifest.includes(`"${name}"`), `${name} is not in the manifest`);
  }

  await writeFile(join(project, 'notes.txt'), 'changed');
  await rm(join(project, '.env.production'));
  const restore = await tars([...config, 'restore', '--backup-file', join(archives, file), '--yes']);
  assert.equal(restore.exitCode, 0, restore.stderr);
  assert.match(restore.stdout + restore.stderr, /does not hold \.env\.production of/);
  await writeFile(join(project, '.env.production'), secrets['.env.production'] ?? '');
  const all = {
    ...secrets,
    ...ordinary,
    'tars.key': 'planted recovery key 7\n',
    'copy.txt': 'planted recovery key 7\n',
  };
  for (const [name, text] of Object.entries(all))
    assert.equal(await readFile(join(project, name), 'utf8'), text);
});

test('a hard link of a file that tars needs itself is not captured, and a restore leaves it', async () => {
  const home = join(root, 'linked');
  const tree = join(home, 'tree');
  await mkdir(tree, { recursive: true });
  await writeFile(join(home, 'key'), 'the key');
  await link(join(home, 'key'), join(tree, 'other-name'));
  await writeFile(join(tree, 'data'), 'before');
  await using stack = await TreeStack.create({
    trees: [{ path: tree, live: tree, exclude: [], foreignFiles: [join(home, 'key')] }],
    scratchDir: home,
  });
  const captured = await stack.backup();
  const names = captured.artifacts.map(({ path }) => path.split('/').at(-1));
  assert.deepEqual(names, ['data']);
  await writeFile(join(tree, 'data'), 'after');
  await stack.restore();
  assert.equal(await readFile(join(tree, 'data'), 'utf8'), 'before');
  assert.equal(await readFile(join(tree, 'other-name'), 'utf8'), 'the key');
  assert.deepEqual(await stack.verify(), []);
});
