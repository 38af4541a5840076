import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { mountPoints, mountsBelow, requireMounted } from './mounts.ts';

/** A place whose `disk name` fstab names, and tables with more of those that are mounted. */
async function scene(t: TestContext, ...mounted: string[]) {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-mounts-')));
  t.after(() => rm(root, { recursive: true, force: true }));
  const escaped = (path: string): string => path.replaceAll(' ', '\\040');
  const tables = { fstab: join(root, 'fstab'), mountinfo: join(root, 'mountinfo') };
  await writeFile(
    tables.fstab,
    [
      '# /dev/sdz /never ext4',
      'UUID=1\t/\text4 defaults 0 1',
      'UUID=2 none swap sw 0 0',
      `/dev/sdb1   ${escaped(root)}/disk\\040name/  ext4 noauto 0 2`,
      '',
    ].join('\n'),
  );
  const lines = ['/', ...mounted.map((name) => join(root, name))].map(
    (point, id) => `${id} 1 8:1 / ${escaped(point)} rw - ext4 /dev/sda1 rw`,
  );
  await writeFile(tables.mountinfo, `${lines.join('\n')}\n`);
  await mkdir(join(root, 'disk name'));
  const refused = async (...names: string[]): Promise<string | undefined> => {
    try {
      await requireMounted(join(root, ...names), tables);
      return undefined;
    } catch (error) {
      return (error as Error).message.replaceAll(root, '');
    }
  };
  return { root, tables, refused };
}

test('a directory on a disk that fstab names and nothing is mounted from is refused, there or not', async (t) => {
  const { root, refused } = await scene(t);
  const said = 'is not mounted: /etc/fstab mounts it at /disk name';
  assert.equal(await refused('disk name'), `The disk of /disk name ${said}`);
  assert.equal(
    await refused('disk name', 'tars', 'repository'),
    `The disk of /disk name/tars/repository ${said}`,
  );
  await symlink(join(root, 'disk name'), join(root, 'link'));
  assert.equal(await refused('link', 'tars'), `The disk of /link/tars ${said}`);
  assert.equal(await refused('disk names', 'tars'), undefined, 'that is another directory');
  assert.equal(await refused('elsewhere'), undefined);
});

test('what is mounted there, or nearer, is a disk', async (t) => {
  const { refused, root, tables } = await scene(t, 'disk name');
  assert.equal(await refused('disk name', 'tars'), undefined);
  assert.deepEqual(await mountPoints(tables), ['/', join(root, 'disk name')]);
  assert.deepEqual(await mountsBelow(root, tables), new Set(['disk name']));
  assert.deepEqual(await mountsBelow(join(root, 'disk'), tables), new Set());
  await appendFile(
    tables.mountinfo,
    Buffer.concat([Buffer.from(`9 1 8:1 / ${root}/a`), Buffer.from([0xe9, 10])]),
  );
  assert.deepEqual(await mountsBelow(root, tables), new Set(['disk name', 'a\udce9']));
  const nearer = await scene(t, 'disk name/usb');
  assert.equal(await nearer.refused('disk name', 'usb', 'tars'), undefined);
  assert.match((await nearer.refused('disk name', 'tars')) ?? '', /is not mounted/);
});

test('where the system has no such tables nothing is refused', async (t) => {
  const { root } = await scene(t);
  await requireMounted(join(root, 'disk name'), { fstab: join(root, 'none'), mountinfo: join(root, 'none') });
  await requireMounted(root);
});
