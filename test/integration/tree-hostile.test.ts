import assert from 'node:assert/strict';
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import {
  chmod,
  chown,
  cp,
  lchown,
  link,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { artifactsOf } from '../../src/model/artifact-list.ts';
import { messageOf } from '../../src/model/errors.ts';
import type { SwapRecord } from '../../src/model/restore-plan.ts';
import { createTreesComponent } from '../../src/components/files/index.ts';
import type { PlannedRestore } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { counted, isCampaign } from '../fixtures/campaign.ts';
import { HostileSteps, tricks, type Trick } from '../fixtures/hostile-steps.ts';
import { TreeStack } from '../fixtures/tree-stack.ts';

const skip = process.getuid?.() === 0 ? false : 'it takes another user than root';
const nobody = 65_534;
const service = fileURLToPath(new URL('../fixtures/hostile-service.ts', import.meta.url));

/** Everything outside, to the time when its inodes were changed last. */
function pictureOf(outside: string): string {
  const paths = readdirSync(outside, { recursive: true, encoding: 'utf8' }).sort();
  return ['', ...paths]
    .map((path) => {
      const { mode, uid, gid, size, mtimeNs, ctimeNs, ...stats } = lstatSync(join(outside, path), {
        bigint: true,
      });
      const content = (mode & 0o170000n) === 0o100000n ? readFileSync(join(outside, path), 'utf8') : '';
      return [path, mode.toString(8), uid, gid, stats.ino, size, mtimeNs, ctimeNs, content].join(' ');
    })
    .join('\n');
}

test(
  'a service that plants links in its own directory makes root read and change nothing outside',
  { skip },
  async (t) => {
    const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-hostile-')));
    t.after(() => rm(root, { recursive: true, force: true }));
    await chmod(root, 0o755);
    const [home, outside] = [join(root, 'home'), join(root, 'outside')];
    const tree = join(home, 'tree');
    await mkdir(join(outside, 'sub'), { recursive: true });
    await writeFile(join(outside, 'secret'), 'the secret of root');
    await writeFile(join(outside, 'file'), 'the secret of root');
    await writeFile(join(outside, 'sub/file'), 'the secret of root');
    for (let i = 0; i < 5; i++) {
      await mkdir(join(tree, `d${i}/sub`), { recursive: true });
      await writeFile(join(tree, `d${i}/file`), 'own');
      await writeFile(join(tree, `d${i}/sub/file`), 'own');
    }
    await execa('chown', ['-R', `${nobody}:${nobody}`, home]);
    await chown(home, nobody, nobody);
    const before = pictureOf(outside);
    const secret = createHash('sha256').update('the secret of root').digest('hex');

    await using stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: ['*.tmp'] }] });
    await stack.backup();
    const child = execa(process.execPath, [service, tree, outside], {
      uid: nobody,
      gid: nobody,
      reject: false,
    });
    const outcomes = { 'backed up': 0, restored: 0, refused: 0 };
    const reasons = new Set<string>();
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve));
      for (let round = 0; round < counted(2, 200); round++) {
        try {
          const captured = await stack.backup();
          outcomes['backed up'] += 1;
          for await (const { path, sha256 } of artifactsOf(captured, noArtifacts, stack.ctx.signal))
            assert.notEqual(sha256, secret, `${path} was read from outside`);
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          outcomes.refused += 1;
          reasons.add(messageOf(error));
        }
        try {
          const { record } = await stack.restore();
          await stack.component.generation(record).discardPrevious(stack.ctx);
          outcomes.restored += 1;
        } catch (error) {
          outcomes.refused += 1;
          reasons.add(messageOf(error));
        }
        assert.equal(pictureOf(outside), before, `round ${round}`);
      }
    } finally {
      child.kill('SIGKILL');
      await child;
    }
    t.diagnostic(`${JSON.stringify(outcomes)} ${[...reasons].slice(0, 5).join(' | ')}`);
    assert.ok(outcomes['backed up'] + outcomes.restored > 0, [...reasons].join('\n'));
  },
);

/** A tree of the service, in a directory of the service. */
async function plantSmall(tree: string): Promise<void> {
  await mkdir(join(tree, 'sub/below'), { recursive: true });
  for (const name of ['a', 'sub/b', 'sub/below/c']) await writeFile(join(tree, name), `own ${name}`);
  await symlink('a', join(tree, 'link'));
  await link(join(tree, 'a'), join(tree, 'sub/again'));
  for (const path of ['', 'a', 'link', 'sub', 'sub/b', 'sub/below', 'sub/below/c'])
    await lchown(join(tree, path), nobody, nobody);
}

/** Of each pair, one shows what the other does. */
const shown = ['link for a moment', 'directory'] as const;

/**
 * What is played at a step. Outside a campaign that is one trick, and the other one where a tree is mounted: most steps
 * are those of the backup, which are the same in both.
 */
const playedAt = (step: number, keepDirectory: boolean): readonly Trick[] =>
  isCampaign ? tricks : [shown[(step + Number(keepDirectory)) % 2] ?? 'directory'];

for (const keepDirectory of [false, true]) {
  const which = keepDirectory ? 'a mounted directory' : 'a directory';
  test(
    `a service that replaces any one entry of ${which} right when it is used leads root nowhere`,
    { skip },
    async (t) => {
      const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-steps-')));
      t.after(() => rm(root, { recursive: true, force: true }));
      await chmod(root, 0o755);
      const [home, outside, artifacts] = [join(root, 'home'), join(root, 'outside'), join(root, 'artifacts')];
      const tree = join(home, 'tree');
      await mkdir(join(outside, 'sub/below'), { recursive: true });
      for (const name of ['a', 'b', 'secret', 'sub/b', 'sub/below/c'])
        await writeFile(join(outside, name), 'the secret of root', { mode: 0o751 });
      const before = pictureOf(outside);
      const secret = createHash('sha256').update('the secret of root').digest('hex');
      const component = createTreesComponent({
        ...{ name: 'data', service: undefined, keepDirectory },
        trees: [{ path: tree, live: tree, exclude: ['*.tmp'] }],
      });
      const ctx = testContext();

      /** Backup, restore and the deletion of what was there before. @returns why it did not come to its end */
      const round = async (): Promise<string | undefined> => {
        const sink = createDirectorySink(artifacts, { encrypted: true });
        let record: SwapRecord | undefined;
        try {
          await using prepared = await component.prepare(ctx);
          const { facts } = await prepared.capture(sink, ctx);
          for (const { path, sha256 } of sink.artifacts)
            assert.notEqual(sha256, secret, `${path} was read from outside`);
          const manifest = {
            ...{ name: 'data', kind: 'files', outcome: 'captured' as const, facts },
            artifacts: [...sink.artifacts],
          };
          const source = createDirectorySource(artifacts);
          const options = { restoreConfig: false, restoreId: 'r1' };
          const planned = await component.planRestore(manifest, options, ctx, source);
          const staged = await planned.stage(source, ctx);
          record = staged.record;
          await staged.swap(ctx);
          await staged.discard(ctx);
          await component.generation(record).discardPrevious(ctx);
          return undefined;
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          if (record !== undefined)
            await component
              .generation(record)
              .undo(ctx)
              .catch(() => undefined);
          return messageOf(error);
        }
      };

      using hostile = new HostileSteps(nobody, outside);
      const fresh = async (): Promise<void> => {
        for (const path of [home, artifacts]) await rm(path, { recursive: true, force: true });
        await plantSmall(tree);
        await chown(home, nobody, nobody);
      };
      await fresh();
      hostile.arm(0, 'link');
      assert.equal(await round(), undefined);
      const { steps } = hostile;
      let [played, refused] = [0, 0];
      for (let step = 1; step <= steps; step++) {
        for (const trick of playedAt(step, keepDirectory)) {
          await fresh();
          hostile.arm(step, trick);
          played += 1;
          if ((await round()) !== undefined) refused += 1;
          const done = hostile.did;
          hostile.arm(0, trick);
          assert.equal(pictureOf(outside), before, done);
        }
      }
      t.diagnostic(`${steps} steps, ${played} tricks played, ${refused} times refused`);
    },
  );
}

test('what takes the place of a file, of what is staged or of the tree itself is not taken for it', async (t) => {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-replaced-')));
  t.after(() => rm(root, { recursive: true, force: true }));
  const [tree, outside] = [join(root, 'tree'), join(root, 'outside')];
  for (const directory of [tree, outside]) await mkdir(join(directory, 'sub'), { recursive: true });
  await writeFile(join(outside, 'secret'), 'the secret of root');
  for (const name of ['a', 'b', 'sub/c']) await writeFile(join(tree, name), 'own');
  const component = createTreesComponent({
    ...{ name: 'data', service: undefined },
    trees: [{ path: tree, live: tree, exclude: [] }],
  });
  const ctx = testContext();
  const before = pictureOf(outside);

  // Between the look at the file and its opening it becomes a link.
  const sink = createDirectorySink(join(root, 'artifacts'), { encrypted: true });
  await using prepared = await component.prepare(ctx);
  const { facts, incomplete } = await prepared.capture(
    {
      ...sink,
      async reuse(path) {
        if (path.endsWith('/a')) {
          await rm(join(tree, 'a'));
          await symlink(join(outside, 'secret'), join(tree, 'a'));
        }
        return undefined;
      },
    },
    ctx,
  );
  assert.equal(incomplete, undefined);
  const names = sink.artifacts.map(({ path }) => path.slice(`data${tree}/`.length));
  assert.deepEqual(names, ['b', 'sub/c']);

  // While a tree is staged its place becomes a link to what is outside.
  const manifest = {
    name: 'data',
    kind: 'files',
    outcome: 'captured' as const,
    facts,
    artifacts: [...sink.artifacts],
  };
  const source = createDirectorySource(join(root, 'artifacts'));
  const plan = (): Promise<PlannedRestore> =>
    component.planRestore(manifest, { restoreConfig: false, restoreId: 'r1' }, ctx, source);
  const place = join(root, 'tree.tars-new-r1');
  const replaced = {
    ...source,
    async *open(path: string, signal: AbortSignal) {
      if (path.endsWith('/b')) {
        await rename(place, join(root, 'taken'));
        await symlink(outside, place);
      }
      yield* source.open(path, signal);
    },
  };
  const misplaced = await (await plan()).stage(replaced, ctx);
  await assert.rejects(
    misplaced.swap(ctx),
    /tree\.tars-new-r1 is not the data that tars staged: someone replaced it/,
  );
  await component.generation(misplaced.record).undo(ctx);
  assert.equal(pictureOf(outside), before);
  await rm(place, { force: true });

  // What is staged is another directory by the time of the exchange.
  await rm(join(root, 'taken'), { recursive: true, force: true });
  const staged = await (await plan()).stage(source, ctx);
  await rename(place, join(root, 'taken'));
  await cp(join(root, 'taken'), place, { recursive: true });
  await assert.rejects(
    staged.swap(ctx),
    /tree\.tars-new-r1 is not the data that tars staged: someone replaced it/,
  );
  await component.generation(staged.record).undo(ctx);
  assert.equal(await readFile(join(tree, 'b'), 'utf8'), 'own');

  // What others may write in lies where the previous tree is to go.
  await rm(place, { recursive: true, force: true });
  const previous = join(root, 'tree.tars-prev-r1');
  const late = await (await plan()).stage(source, ctx);
  await mkdir(previous, { mode: 0o755 });
  await assert.rejects(
    late.swap(ctx),
    /Cannot use \S*tree\.tars-prev-r1: another user owns it, or may write there/,
  );
  const forged = { whole: true, hadLive: true, directories: [] };
  await writeFile(join(previous, 'exchange.json'), `${'0'.repeat(64)}\n${JSON.stringify(forged)}`);
  await assert.rejects(component.generation(late.record).undo(ctx), /is not the one that tars wrote/);
  // A record without a key for signatures, as 1.0.12 wrote them.
  const { trees } = late.record.details as { trees: Record<string, unknown>[] };
  const unsigned = { version: 2, trees: trees.map(({ noteKey: _, ...tree }) => tree) };
  const former = component.generation({ ...late.record, details: unsigned });
  await assert.rejects(former.undo(ctx), /another user owns it, or may write there/);
  await late.discard(ctx);
  assert.equal(await readFile(join(tree, 'b'), 'utf8'), 'own');
  assert.equal(pictureOf(outside), before);
});
