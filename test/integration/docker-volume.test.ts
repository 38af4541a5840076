import { execa } from 'execa';
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { Bytes } from '../../src/ports/artifacts.ts';
import type { NewEntry, OpenVolume, StoreVolume, VolumeExchange } from '../../src/ports/volume.ts';
import { connectEngine } from '../../src/runtimes/docker/engine/engine.ts';
import { argumentsOf } from '../../src/runtimes/docker/volume/volume-helper.ts';
import { swapScript, undoScript } from '../../src/runtimes/docker/volume/volume-scripts.ts';
import { createDockerVolume } from '../../src/runtimes/docker/volume/volume.ts';
import { testContext } from '../fixtures/context.ts';
import { openContainerShell } from '../fixtures/docker/container-shell.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;
const ctx = testContext();
const { signal } = ctx;
const image = 'redis:7-tars-test';

interface Bench extends AsyncDisposable {
  readonly volume: StoreVolume;
  readonly name: string;
  /** A shell in the store's directory. */
  readonly sh: (script: string, ...args: string[]) => Promise<string>;
}

/** A volume of a container that was never started. */
async function startBench(): Promise<Bench> {
  const name = `vx-volume-${randomBytes(4).toString('hex')}`;
  const { engine } = docker;
  await engine.docker(['volume', 'create', name]);
  const id = await engine.docker(['create', '--name', name, '-v', `${name}:/store`, image]);
  const imageId = await engine.docker(['inspect', '--format', '{{.Image}}', id]);
  const mount = {
    ...{ type: 'volume' as const, volume: name, source: `/somewhere/${name}` },
    ...{ destination: '/store', readOnly: false },
  };
  const container = {
    ...{ id, name, service: 'store', image, imageId, state: 'stopped' as const, health: undefined },
    ...{ environment: {}, argv: [], mounts: [mount], publishedPorts: new Map(), exposedPorts: [] },
    ...{ addresses: [], addresses6: [], hostNetwork: false, labels: {}, stopGraceMs: undefined },
  };
  const shell = `${name}-shell`;
  const run = ['run', '--detach', '--rm', '--name', shell, '--network', 'none', '-v', `${name}:/store`];
  await engine.docker([...run, '--entrypoint', 'sleep', image, '3600']);
  const inShell = openContainerShell(engine, shell);
  const sh = (script: string, ...args: string[]): Promise<string> =>
    inShell.run(`mkdir -p /store/data; cd /store/data; ${script}`, ...args);
  await sh('chown 33:34 .; chmod 750 .');
  return {
    name,
    sh,
    volume: createDockerVolume(await connectEngine({ host: engine.host }), {
      container,
      mount,
      path: '/store/data',
    }),
    [Symbol.asyncDispose]: async () => {
      await inShell[Symbol.asyncDispose]();
      await engine.docker(['rm', '--force', name, shell]);
      await engine.docker(['volume', 'rm', '--force', name]);
    },
  };
}

async function textOf(bytes: Bytes): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const attributes = { mode: 0o640, uid: 33, gid: 34, mtimeNs: 1_700_000_000_000_000_000n };
const file = (path: string, text: string): NewEntry => ({
  ...{ path, type: 'file', attributes, sizeBytes: Buffer.byteLength(text) },
  body: (async function* () {
    yield await Promise.resolve(Buffer.from(text));
  })(),
});
const folder = (path: string): NewEntry => ({
  ...{ path, type: 'directory', attributes: { ...attributes, mode: 0o700 }, sizeBytes: 0 },
});
async function* entries(...list: NewEntry[]): AsyncGenerator<NewEntry> {
  for (const entry of list) yield await Promise.resolve(entry);
}

test('a volume is listed, read and written through a helper that ends with its user', { skip }, async () => {
  await using bench = await startBench();
  const { volume, sh } = bench;
  assert.equal(volume.label, `/store/data in the volume ${bench.name}`);
  await sh(`mkdir 'a folder'; printf hidden > 'a folder/ü x'; ln -s 'a folder' link
    head -c 30000000 /dev/urandom > large; chmod 4755 large`);
  const sum = (await sh('sha256sum large')).split(' ')[0];
  {
    await using open = await volume.open('write', ctx);
    const { root, entries: listed, fineTimes } = (await open.list(signal))!;
    assert.deepEqual([...listed.keys()].sort(), ['a folder', 'a folder/ü x', 'large', 'link']);
    assert.deepEqual({ ...root.attributes, mtimeNs: 0n }, { mode: 0o750, uid: 33, gid: 34, mtimeNs: 0n });
    assert.equal(listed.get('large')?.attributes.mode, 0o4755);
    assert.deepEqual(
      ['a folder', 'large', 'link'].map((path) => listed.get(path)?.type),
      ['directory', 'file', 'symlink'],
    );
    assert.equal(fineTimes, true);
    const large = await open.read('large', signal);
    assert.equal(large?.sizeBytes, 30_000_000);
    const hash = createHash('sha256');
    for await (const piece of large.body) hash.update(piece);
    assert.equal(hash.digest('hex'), sum);
    // Left in the middle, or unread: the next one is read all the same.
    assert.equal((await open.read('large', signal))?.sizeBytes, 30_000_000);
    for await (const _ of (await open.read('large', signal))!.body) break;
    assert.equal(await textOf((await open.read('a folder/ü x', signal))!.body), 'hidden');
    assert.equal((await open.read('link', signal))?.linkTarget, 'a folder');
    assert.equal(await open.read('nothing', signal), undefined);

    const link: NewEntry = { ...file('new/same', ''), type: 'link', linkTarget: 'new/file' };
    const symlink: NewEntry = { ...file('new/sym', ''), type: 'symlink', linkTarget: 'file' };
    await open.write(
      entries(folder('new'), file('new/file', 'fresh'), file('new/empty', ''), link, symlink),
      signal,
    );
    const hashes = await open.hashes('new', signal);
    const fresh = createHash('sha256').update('fresh').digest('hex');
    assert.deepEqual([...hashes!.keys()].sort(), ['new/empty', 'new/file', 'new/same']);
    assert.deepEqual([hashes?.get('new/file'), hashes?.get('new/same')], [fresh, fresh]);
    await open.remove('link', signal);
    const failing = (async function* (): AsyncGenerator<NewEntry> {
      yield await Promise.resolve(file('new/half', 'half'));
      throw new Error('The source is damaged');
    })();
    await assert.rejects(open.write(failing, signal), /The source is damaged/);
    await open.read('large', signal);
  }
  const listing = await sh(`find new ! -name half -printf '%P %y %m %U:%G %n %T@ %l\\n' | sort; ls`);
  assert.equal(
    listing,
    [
      ' d 700 33:34 2 1700000000.0000000000 ',
      'empty f 640 33:34 1 1700000000.0000000000 ',
      'file f 640 33:34 2 1700000000.0000000000 ',
      'same f 640 33:34 2 1700000000.0000000000 ',
      'sym l 777 33:34 1 1700000000.0000000000 file',
      ...['a folder', 'large', 'new'],
    ].join('\n'),
  );
  const helpers = (): Promise<string> =>
    docker.engine.docker([
      'ps',
      '--all',
      '--quiet',
      '--filter',
      `volume=${bench.name}`,
      '--filter',
      'label=com.tars.helper',
    ]);
  await eventually('The helper is gone', async () => (await helpers()) === '');
});

const exchangeAll = { restoreId: 'r1', part: { all: true as const } };
const exchangeSome = { restoreId: 'r1', part: { paths: ['one', 'deep/two', 'gone'] } };
const exchangeNone = { restoreId: 'r1', part: { paths: [] } };
const visible = `find . -path './.tars-*' -prune -o -type f -printf '%P=' -exec cat '{}' ';' -printf '\\n' | sort`;

async function stage(open: OpenVolume): Promise<void> {
  await open.write(
    entries(
      folder('.tars-new-r1'),
      folder('.tars-new-r1/deep'),
      file('.tars-new-r1/one', 'new'),
      file('.tars-new-r1/deep/two', 'new'),
    ),
    signal,
  );
}

const live = `rm -rf .tars-* ./*; mkdir deep; printf old > one; printf old > gone; printf old > ' odd name'`;

test(
  'staged data is exchanged with live data by renames, which are undone from every half-done state',
  { skip },
  async (t) => {
    await using bench = await startBench();
    const { volume, sh } = bench;
    const old = ' odd name=old\ngone=old\none=old';
    for (const [name, exchange, after] of [
      ['everything', exchangeAll, 'deep/two=new\none=new'],
      ['some paths', exchangeSome, ' odd name=old\ndeep/two=new\none=new'],
    ] as const) {
      await t.test(name, async () => {
        await sh(live);
        await using open = await volume.open('write', ctx);
        await stage(open);
        await open.swap(exchange, signal);
        assert.equal(await sh(visible), after);
        await open.swap(exchange, signal);
        assert.equal(await sh(visible), after, 'again');
        assert.deepEqual(await open.undo(exchange, signal), []);
        assert.equal(await sh(visible), old);
        assert.deepEqual(await open.undo(exchange, signal), []);
        assert.equal(await sh(visible), old, 'undone again');
        assert.equal(await sh('ls -A | grep tars || true'), '');
        await assert.rejects(open.swap(exchange, signal), /\.tars-new-r1 is not there/);
        assert.equal(await sh(visible), old, 'nothing staged');

        // Cut off after so many renames, as by a crash, then undone, or carried out to its end.
        for (let renames = 1; renames <= 4; renames++) {
          for (const end of ['undo', 'swap'] as const) {
            await sh(`${live}; ${stagedByHand}`);
            await cutOff(bench, swapScript, exchange, renames);
            if (end === 'undo') {
              await cutOff(bench, undoScript, exchange, 1);
              await open.undo(exchange, signal);
              assert.equal(await sh(visible), old, `undone after ${renames}`);
            } else {
              await open.swap(exchange, signal);
              assert.equal(await sh(visible), after, `finished after ${renames}`);
            }
          }
        }
      });
    }

    await t.test('by hand, as printed', async () => {
      await using open = await volume.open('write', ctx);
      for (const exchange of [exchangeAll, exchangeSome]) {
        await sh(live);
        await stage(open);
        await open.swap(exchange, signal);
        const env = { DOCKER_HOST: docker.engine.host };
        await execa('sh', ['-euc', volume.wayBack(exchange).join('\n')], { env });
        assert.equal(await sh(visible), old);
      }
    });

    await t.test('of no paths, nothing is exchanged, put back or discarded', async () => {
      await sh(live);
      await using open = await volume.open('write', ctx);
      await sh(stagedByHand);
      await open.swap(exchangeNone, signal);
      assert.equal(await sh(visible), old);
      assert.deepEqual(await open.undo(exchangeNone, signal), []);
      assert.equal(await sh(visible), old);
      await open.discardPrevious(exchangeNone, signal);
      assert.equal(await sh(visible), old);
      assert.deepEqual(volume.wayBack(exchangeNone), []);
      for (const args of [[''], ['', 'all'], ['r1', ''], ['r1', 'all', 'one'], ['r1', 'one']])
        await assert.rejects(sh(swapScript, ...args));
      assert.equal(await sh(visible), old, 'what is not clear is refused');
    });

    await t.test('and what a stranger put there meanwhile is kept', async () => {
      await sh(live);
      await using open = await volume.open('write', ctx);
      await sh('mkdir .tars-prev-r1; mv one .tars-prev-r1; printf stranger > one');
      assert.deepEqual(await open.undo(exchangeSome, signal), ['.tars-prev-r1.stray/one']);
      assert.equal(await sh(visible), old);
      assert.equal(await sh('cat .tars-prev-r1.stray/one'), 'stranger');
      await sh('rm -rf .tars*');
      await stage(open);
      await open.swap(exchangeAll, signal);
      await open.discardPrevious(exchangeAll, signal);
      assert.equal(await sh('ls -A'), 'deep\none');
    });
  },
);

/** As {@link stage}. */
const stagedByHand = `mkdir -p .tars-new-r1/deep; printf new | tee .tars-new-r1/one > .tars-new-r1/deep/two`;

/** Carries a script out with an `mv` that ends it after so many renames. */
async function cutOff(
  { sh }: Bench,
  script: string,
  exchange: VolumeExchange,
  renames: number,
): Promise<void> {
  const limited = `n=0; mv() { n=$((n + 1)); [ $n -le ${renames} ] || exit 9; command mv "$@"; }`;
  await sh(`${limited}\n${script}`, ...argumentsOf(exchange)).catch(() => undefined);
}
