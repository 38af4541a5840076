import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { stringify } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import type { RepositoryDirectory } from '../fixtures/repositories.ts';
import { removeTemplate, startShelf } from '../fixtures/retention.ts';

after(removeTemplate);

/** A machine whose repository lies at `repository` of `root`, beside whatever the test puts there. */
class Machine implements AsyncDisposable {
  readonly #directory: RepositoryDirectory;
  readonly root: string;

  private constructor(directory: RepositoryDirectory) {
    this.#directory = directory;
    this.root = directory.root;
  }

  static async started(): Promise<Machine> {
    const machine = new Machine((await startShelf([])).directory);
    await mkdir(machine.at('opt'));
    return machine;
  }

  at(path: string): string {
    return join(this.root, path);
  }

  async moveRepository(to: string): Promise<void> {
    await mkdir(join(this.at(to), '..'), { recursive: true });
    await execa('mv', [this.at('repository'), this.at(to)]);
  }

  async write(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(this.at(path), '..'), { recursive: true });
      await writeFile(this.at(path), text);
    }
  }

  read(path: string): Promise<string> {
    return readFile(this.at(path), 'utf8');
  }

  async configure(components: object, more: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const settings = {
      ...{ version: 1, stack: 'lab', host: 'box', repository: { path: 'repository', password_file: 'key' } },
      ...{ scratch_dir: 'scratch', state_dir: 'state', components },
      ...more,
    };
    await writeFile(this.at('tars.yaml'), stringify(settings), { mode: 0o600 });
  }

  run(...args: string[]): Promise<CliRun> {
    return tars(['--config', this.at('tars.yaml'), ...args]);
  }

  async succeeds(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...args);
    assert.equal(exitCode, 0, `${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  /** Paths that the newest snapshot holds of a component's only tree, and what it says was not captured. */
  async newest(): Promise<{ paths: string[]; notCaptured: string[] }> {
    const { manifest } = JSON.parse(await this.succeeds('show', '--json')) as { manifest: Manifest };
    const paths = manifest.components.flatMap(({ artifacts }) => artifacts.map(({ path }) => path));
    return { paths: paths.sort(), notCaptured: manifest.notCaptured.map(({ subject }) => subject).sort() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory[Symbol.asyncDispose]();
  }
}

const repositoryAt = (path: string): Record<string, unknown> => ({
  repository: { path, password_file: 'key' },
});

test('what tars needs is neither captured, nor exchanged, nor discarded with the tree it lies in', async () => {
  await using machine = await Machine.started();
  await machine.write({ 'data/note': 'first' });
  const link = `${machine.root}-link`;
  await symlink(machine.root, link);
  await using _link = { [Symbol.asyncDispose]: () => rm(link) };
  // The tree is the directory of tars.yaml itself, by another name: init puts all it makes there.
  await machine.configure({ data: { kind: 'files', paths: [link] } });
  const plan = await machine.succeeds('backup', '--dry-run');
  for (const what of [
    'repository',
    'state directory',
    'scratch directory',
    'key file',
    'configuration of tars',
  ])
    assert.match(plan, new RegExp(`the ${what}; data leaves it out`));
  await machine.succeeds('key', 'export', '--output', machine.at('kit.txt'));
  await machine.succeeds('backup');
  const { paths, notCaptured } = await machine.newest();
  const tree = `data${link}`;
  assert.deepEqual(
    paths.filter((path) => /note|key|kit|tars\.yaml|config$|state|scratch/.test(path.slice(tree.length))),
    [`${tree}/data/note`],
  );
  assert.deepEqual(
    notCaptured,
    ['key', 'kit.txt', 'repository', 'scratch', 'state', 'tars.yaml'].map((name) => machine.at(name)),
  );
  await machine.write({ 'data/note': 'second' });
  await machine.succeeds('backup');
  assert.match(await machine.succeeds('doctor'), /repository is never captured: the repository; data leaves/);
  const before = await readdir(machine.at('repository/snapshots'));
  const [oldest = ''] = (JSON.parse(await machine.succeeds('snapshots', '--json')) as { id: string }[]).map(
    ({ id }) => id,
  );
  const settings = await machine.read('tars.yaml');
  await machine.succeeds('restore', oldest, '--yes', '--discard-previous');
  assert.equal(await machine.read('data/note'), 'first');
  assert.deepEqual(await readdir(machine.at('repository/snapshots')), before);
  assert.equal(await machine.read('tars.yaml'), settings);
  await machine.succeeds('check', '--read-data');
});

test('a repository that lies deep in a tree stays where it is when the tree is restored', async () => {
  await using machine = await Machine.started();
  await machine.write({ 'opt/note': 'first', 'opt/backup/readme': 'old' });
  await machine.moveRepository('opt/backup/tars');
  await machine.configure({ data: { kind: 'files', paths: ['opt'] } }, repositoryAt('opt/backup/tars'));
  await machine.succeeds('backup');
  await machine.succeeds('backup');
  const { paths } = await machine.newest();
  assert.deepEqual(
    paths.map((path) => path.split('/').at(-1)),
    ['readme', 'note'],
  );
  await machine.write({ 'opt/note': 'newer', 'opt/backup/readme': 'newer', 'opt/backup/more': 'x' });
  assert.match(await machine.succeeds('restore', '--dry-run'), /Leave in place in .*opt: backup\/tars/);
  await machine.succeeds('restore', '--yes', '--discard-previous');
  assert.equal(await machine.read('opt/note'), 'first');
  assert.deepEqual((await readdir(machine.at('opt/backup'))).sort(), ['readme', 'tars']);
  assert.equal((await readdir(machine.at('opt/backup/tars/snapshots'))).length, 2);
  await machine.succeeds('check', '--read-data');
});

test('a snapshot that holds the repository does not bring it back over the present one', async () => {
  await using machine = await Machine.started();
  await machine.write({ 'opt/note': 'first', 'opt/vault/config': 'an old copy' });
  const components = { data: { kind: 'files', paths: ['opt'] } };
  await machine.configure(components);
  await machine.succeeds('backup');
  await rm(machine.at('opt/vault'), { recursive: true });
  await machine.moveRepository('opt/vault');
  await machine.configure(components, repositoryAt('opt/vault'));
  await machine.write({ 'opt/note': 'newer' });
  await machine.succeeds('restore', '--yes', '--discard-previous');
  assert.equal(await machine.read('opt/note'), 'first');
  assert.equal((await readdir(machine.at('opt/vault/snapshots'))).length, 1);
  await machine.succeeds('check', '--read-data');
});

test('a place that is, or lies in, what tars needs is refused everywhere', async () => {
  await using machine = await Machine.started();
  await machine.write({ 'good/note': 'first', 'state/uploads/file': 'x', 'chroma/chroma.sqlite3': '' });
  await symlink(machine.at('repository'), machine.at('opt/alias'));
  const cases: [object, Record<string, unknown>, RegExp][] = [
    [{ bad: { kind: 'files', paths: ['opt/alias'] } }, {}, /alias of bad is the repository/],
    [{ bad: { kind: 'files', paths: ['repository/data'] } }, {}, /data of bad lies in the repository/],
    [{ bad: { kind: 'files', paths: ['state/uploads'] } }, {}, /uploads of bad lies in the state directory/],
    [{ bad: { kind: 'chroma', path: '.' } }, {}, /repository, the repository, lies in .* of bad/],
    [{ bad: { kind: 'ollama', path: 'repository' } }, {}, /repository of bad is the repository/],
    [
      { one: { kind: 'files', paths: ['good'] }, bad: { kind: 'files', paths: ['opt/../good'] } },
      {},
      /good of bad is a place of the component one/,
    ],
    [{ bad: { kind: 'files', paths: ['good', 'good'] } }, {}, /good of bad is another place of bad/],
  ];
  for (const [components, more, message] of cases) {
    await machine.configure({ fine: { kind: 'config', files: ['key2'] }, ...components }, more);
    await machine.write({ key2: 'A=1\n' });
    assert.match(await machine.succeeds('backup', '--dry-run'), message);
    const made = await machine.run('backup');
    assert.equal(made.exitCode, 2, made.stderr);
    assert.match(made.stderr, message);
    assert.match((await machine.run('doctor')).stdout, message);
    const init = await machine.run('init', '--yes');
    assert.equal(init.exitCode, 1);
    assert.match(init.stderr, message);
  }
});

test('the inner of two places is captured once, by its own component, and the printed way back holds', async () => {
  await using machine = await Machine.started();
  await machine.write({
    'opt/.env': 'LEVEL=old\n',
    'opt/uploads/u': 'up',
    'opt/x/deep/d': 'deep',
    'opt/app': 'v1',
  });
  await machine.configure({
    all: { kind: 'files', paths: ['opt'] },
    up: { kind: 'files', paths: ['opt/uploads'] },
    config: { files: ['opt/.env', 'key'] },
  });
  await machine.succeeds('backup');
  const { paths, notCaptured } = await machine.newest();
  assert.deepEqual(
    paths.filter((path) => /(\/u|\/d|\/app|true\/.*\.env|\/\.env)$/.test(path)),
    [
      `all${machine.at('opt/app')}`,
      `all${machine.at('opt/x/deep/d')}`,
      `config/redacted${machine.at('opt/.env')}`,
      `config/true${machine.at('opt/.env')}`,
      `up${machine.at('opt/uploads/u')}`,
    ],
  );
  assert.ok(!paths.some((path) => path.endsWith('/key')));
  assert.deepEqual(notCaptured, [machine.at('key')]);
  const bad = { 'opt/.env': 'LEVEL=bad\n', 'opt/uploads/u': 'bad', 'opt/app': 'v2', 'opt/extra': 'new' };
  await machine.write(bad);
  await machine.succeeds('restore', '--yes', '--restore-config');
  assert.equal(await machine.read('opt/.env'), 'LEVEL=old\n');
  assert.equal(await machine.read('opt/uploads/u'), 'up');
  assert.equal(await machine.read('opt/app'), 'v1');
  const [wayBack = ''] = (await readdir(machine.at('state/restores'))).filter((name) =>
    name.endsWith('.txt'),
  );
  await execa('sh', ['-e', machine.at(`state/restores/${wayBack}`)]);
  for (const [path, text] of Object.entries(bad)) assert.equal(await machine.read(path), text, path);
});

test('the directory that archives go to is not in them', async () => {
  await using machine = await Machine.started();
  await machine.write({ 'opt/note': 'first', 'opt/archives/older': 'x'.repeat(1000) });
  await machine.configure({ data: { kind: 'files', paths: ['opt'] } });
  const made = await machine.succeeds('backup', '--output-dir', machine.at('opt/archives'), '--json');
  const { manifest } = JSON.parse(made) as { manifest: Manifest };
  assert.deepEqual(
    manifest.components[0]?.artifacts.map(({ path }) => path),
    [`data${machine.at('opt/note')}`],
  );
  assert.deepEqual(
    manifest.notCaptured.map(({ subject }) => subject),
    [machine.at('opt/archives')],
  );
});
