import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { stringify } from 'yaml';
import { campaignSeed, isCampaign } from '../fixtures/campaign.ts';
import { cliPath } from '../fixtures/cli.ts';
import { newestRestic, systemRestic } from '../fixtures/restic.ts';
import { differences, picture, requireSamePicture } from '../fixtures/tree-comparison.ts';
import { plantWildTree, type WildTree } from '../fixtures/wild-tree.ts';

/** Another size than the campaign's; also outside of one. */
const asked = process.env['TARS_TREE_FILES'];
const skip =
  process.getuid?.() !== 0
    ? 'owners, devices, capabilities and mounts need root'
    : isCampaign || asked !== undefined
      ? false
      : 'tree-everything.test.ts runs the same in one process; npm run campaign runs this';
const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-beside-')));
const tree = join(root, 'tree');
const files = Number(asked ?? 200_000);
const size = { files, directories: Math.ceil(files / 5), seed: campaignSeed };
/** Left out on purpose, on another file system, and what no restore creates. */
const outside = ['cache', 'mounted', 'socket'];
const stock = newestRestic ?? systemRestic;
const password = 'correct horse battery staple';

let wild: WildTree | undefined;

before(async () => {
  if (skip !== false) return;
  await mkdir(join(tree, 'mounted'), { recursive: true });
  await mkdir(join(tree, 'cache'));
  await writeFile(join(tree, 'cache/what is left out'), 'stays');
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', join(tree, 'mounted')]);
  await writeFile(join(tree, 'mounted/file'), 'stays');
  wild = await plantWildTree(tree, size);
  const settings = {
    ...{ version: 1, stack: 'wild', host: 'wild-box', scratch_dir: './scratch', state_dir: './state' },
    repository: { path: './repository', password_file: './key' },
    components: { data: { kind: 'files', paths: [tree], exclude: ['/cache/'] } },
  };
  await mkdir(join(root, 'scratch'));
  await writeFile(join(root, 'key'), `${password}\n`, { mode: 0o600 });
  await writeFile(join(root, 'tars.yaml'), stringify(settings), { mode: 0o600 });
});
after(async () => {
  wild?.server.close();
  await execa('umount', [join(tree, 'mounted')], { reject: false });
  await rm(root, { recursive: true, force: true });
});

interface Done {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end and prints what it took. @throws when it ends with another exit code than `expected` */
async function measured(
  t: TestContext,
  what: string,
  [program, ...args]: readonly [string, ...string[]],
  expected = 0,
): Promise<Done> {
  const report = join(root, 'time');
  await execa('sync');
  const { exitCode, stdout, stderr } = await execa(
    '/usr/bin/time',
    ['-q', '-f', '%e %U %S %M', '-o', report, program, ...args],
    {
      ...{ reject: false, stdin: 'ignore', cwd: root },
      env: {
        ...{ TARS_CONFIG: undefined, TARS_PASSWORD: undefined, NO_COLOR: '1' },
        ...{ RESTIC_PASSWORD: password, RESTIC_REPOSITORY: join(root, 'restic') },
      },
    },
  );
  assert.equal(exitCode, expected, `${what}: ${stderr.slice(-2000)}`);
  const [wall = 0, user = 0, system = 0, peakKib = 0] = (await readFile(report, 'utf8'))
    .split(' ')
    .map(Number);
  const figures = `${(user + system).toFixed(1)} CPU-s, ${wall.toFixed(1)} s, peak ${Math.round((peakKib * 1024) / 1e6)} MB`;
  t.diagnostic(`${what.padEnd(30)} ${figures}; load ${loadavg()[0]?.toFixed(1)}`);
  return { stdout, stderr };
}

const tars = (t: TestContext, args: readonly string[], expected?: number): Promise<Done> =>
  measured(t, `tars ${args.join(' ')}`, [process.execPath, cliPath, ...args], expected);

const restic = (t: TestContext, args: readonly string[]): Promise<Done> =>
  measured(t, `restic ${args.slice(0, 2).join(' ')}`, [stock.path, '--no-cache', ...args]);

/** Both are the same, whichever of them is asked to become the other. */
async function requireSameTree(one: string, other: string): Promise<void> {
  assert.deepEqual((await differences(one, other, outside)).slice(0, 20), []);
  assert.deepEqual((await differences(other, one, outside)).slice(0, 20), []);
  requireSamePicture(await picture(other, outside), await picture(one, outside), other);
}

/** Where a restore by restic put the tree. */
async function restoredTree(target: string): Promise<string> {
  const { stdout } = await execa('find', [target, '-type', 'd', '-path', `*${tree}`]);
  return stdout;
}

test(
  `${size.files} files in ${size.directories} directories through the command line, beside restic ${stock.version} (seed ${campaignSeed})`,
  { skip },
  async (t) => {
    await tars(t, ['init']);
    // A mounted file system is named as missing.
    const first = await tars(t, ['backup'], 2);
    assert.match(first.stderr, /mounted/);
    await tars(t, ['backup'], 2);
    await tars(t, ['check', '--read-data']);
    const compared = JSON.parse((await tars(t, ['verify', '--json'])).stdout) as {
      findings: { code: string }[];
    };
    assert.deepEqual(
      compared.findings.map(({ code }) => code),
      ['captured-in-part'],
    );

    await restic(t, ['init']);
    const backup = ['backup', '--one-file-system', `--exclude=${tree}/cache`, tree];
    await restic(t, backup);
    await restic(t, backup);
    await restic(t, ['check', '--read-data']);
    await restic(t, ['restore', 'latest', '--target', join(root, 'by-restic')]);
    const original = await restoredTree(join(root, 'by-restic'));
    await requireSameTree(tree, original);

    await tars(t, ['restore', '--yes', '--discard-previous']);
    await requireSameTree(original, tree);
    assert.deepEqual(await readdir(join(tree, 'mounted')), ['file']);
    assert.deepEqual(await readdir(join(tree, 'cache')), ['what is left out']);

    const ours = ['--repo', join(root, 'repository'), 'restore', 'latest', '--target', join(root, 'ours')];
    await measured(t, 'restic restore of ours', [stock.path, '--no-cache', ...ours]);
    await requireSameTree(tree, await restoredTree(join(root, 'ours')));
  },
);
