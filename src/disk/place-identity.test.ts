import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { waysDown } from './place-identity.ts';

let root: string;
const at = (path: string): string => join(root, path);
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-places-'));
  await mkdir(at('srv/backup/tars'), { recursive: true });
  await mkdir(at('other'));
  await symlink(at('srv'), at('link'));
  await symlink('../backup', at('srv/inside'));
  await writeFile(at('srv/key'), '');
});
after(() => rm(root, { recursive: true, force: true }));

test('a place is found below another however both are spelt', async () => {
  const repository = at('srv/backup/tars');
  const cases: [string, string, string[]][] = [
    [at('srv'), repository, ['backup/tars']],
    [at('link'), repository, ['backup/tars']],
    [at('other/../srv'), at('link/backup/../backup/tars'), ['backup/tars']],
    [repository, repository, ['']],
    [at('link/backup/tars'), repository, ['']],
    [at('srv'), at('link/key'), ['key']],
    [at('other'), repository, []],
    [repository, at('srv'), []],
    [at('srv/back'), repository, []],
    ['/', repository, [repository.slice(1)]],
  ];
  for (const [outer, inner, ways] of cases) assert.deepEqual(await waysDown(outer, inner), ways, outer);
});

test('what is not there yet lies where it would be', async () => {
  assert.deepEqual(await waysDown(at('link'), at('srv/new/state')), ['new/state']);
  assert.deepEqual(await waysDown(at('link/new'), at('srv/new/state')), ['state']);
  assert.deepEqual(await waysDown(at('link/new'), at('srv/new')), ['']);
  assert.deepEqual(await waysDown(at('link/new'), at('srv/newer')), []);
});

const canMount = process.getuid?.() === 0;
test('a bind mount is seen through, on either side', { skip: canMount ? false : 'needs root' }, async (t) => {
  await mkdir(at('disk'));
  await mkdir(at('srv/again'));
  const mounted: string[] = [];
  const bind = (from: string, to: string): void => {
    execFileSync('mount', ['--bind', at(from), at(to)], { stdio: 'pipe' });
    mounted.unshift(at(to));
  };
  try {
    bind('srv/backup', 'disk');
  } catch {
    t.skip('nothing may be mounted here');
    return;
  }
  try {
    assert.deepEqual(await waysDown(at('srv'), at('disk/tars')), ['backup/tars']);
    assert.deepEqual(await waysDown(at('disk'), at('srv/backup/tars')), ['tars']);
    bind('srv/backup', 'srv/again');
    assert.deepEqual(await waysDown(at('link'), at('srv/backup/tars')), ['again/tars', 'backup/tars']);
  } finally {
    for (const point of mounted) execFileSync('umount', [point]);
  }
});
