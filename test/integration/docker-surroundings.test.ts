import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { remains, removeProject } from '../fixtures/docker/project.ts';
import { smallProject, type SmallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();

const idle = { image: 'tars-test/backend:1', command: ['sleep', '600'], init: true };

/** The first three numbers of the addresses in a network of its own: tests of other checkouts may run beside. */
const range = `10.213.${randomInt(256)}`;

/** Names and places outside the project. */
interface Outside {
  readonly edge: string;
  /** A network in which no address is fixed. */
  readonly side: string;
  readonly vault: string;
  readonly directory: string;
}

/** What must be there before `up`, of every sort, in one service that has a captured directory too. */
const services = ({ directory, vault }: Outside): Record<string, object> => ({
  web: {
    ...idle,
    user: '1000:1000',
    volumes: [
      ...['./app:/app/data', './.env:/app/.env:ro', './Caddyfile:/etc/caddy/Caddyfile:ro'],
      ...['./conf.d:/etc/web/conf.d', './hot:/app/.cache', 'vault:/var/cache/web/cache'],
      ...[`${directory}/acme.json:/acme.json`, './big.iso:/big.iso:ro'],
    ],
    container_name: `${vault}-web`,
    networks: { edge: { ipv4_address: `${range}.9` }, side: {}, default: {} },
    secrets: ['pw'],
  },
  // It has no volume, with which the Engine would create the directory.
  proxy: { ...idle, volumes: ['./sites.d:/etc/sites.d'] },
});

const topLevel = ({ edge, side, vault, directory }: Outside): object => ({
  networks: { edge: { external: true, name: edge }, side: { external: true, name: side }, default: {} },
  volumes: { vault: { external: true, name: vault } },
  secrets: { pw: { file: join(directory, 'pw.txt') } },
});

async function prepare(small: SmallProject, outside: Outside): Promise<void> {
  const model = parse(await readFile(small.composeFile, 'utf8')) as object;
  // Also Compose 1 reads it.
  await writeFile(small.composeFile, JSON.stringify({ version: '3.7', ...model, ...topLevel(outside) }));
  for (const name of ['app', 'conf.d', 'hot', 'sites.d']) {
    await mkdir(join(small.directory, name));
    await chown(join(small.directory, name), 1000, 1000);
  }
  await chmod(join(small.directory, 'hot'), 0o710);
  await writeFile(join(outside.directory, 'acme.json'), '{"key":1}\n', { mode: 0o600 });
  await chown(join(outside.directory, 'acme.json'), 1000, 1000);
  await writeFile(join(outside.directory, 'pw.txt'), 'quiet-harbour-12\n');
  await writeFile(join(small.directory, 'big.iso'), Buffer.alloc(5 << 20));
  await createOutside(outside);
  await small.compose('up', '-d');
  const fill = 'echo d >/app/data/d && echo a=1 >/etc/web/conf.d/a.conf && echo c >/app/.cache/c';
  await small.project.exec('web', ['sh', '-c', fill]);
  await writeFile(join(small.directory, 'sites.d', 's'), 's\n');
}

const createOutside = async ({ edge, side, vault }: Outside): Promise<void> => {
  const own = ['--subnet', `${range}.0/24`, '--gateway', `${range}.1`, '--label', 'site=here'];
  await docker.engine.docker([
    'network',
    'create',
    ...own,
    '--opt',
    'com.docker.network.driver.mtu=1400',
    edge,
  ]);
  await docker.engine.docker(['network', 'create', side]);
  await docker.engine.docker(['volume', 'create', '--label', 'site=here', vault]);
};

const removeOutside = async ({ edge, side, vault }: Outside): Promise<void> => {
  await docker.engine.docker(['network', 'rm', edge, side]);
  await docker.engine.docker(['volume', 'rm', vault]);
};

const ownerOf = async (path: string): Promise<string> => {
  const { uid, gid, mode } = await stat(path);
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
};

test(
  'what must be there before the containers is recorded, and created or named before a restore begins',
  { skip: docker.skip },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tars-outside-'));
    const id = directory.slice(-6);
    const outside = { edge: `su-edge-${id}`, side: `su-side-${id}`, vault: `su-vault-${id}`, directory };
    const files = { '.env': 'A=1\n', Caddyfile: ':80\n', 'late.conf': 'late\n' };
    await using small = await smallProject(docker.engine, 'su-', services(outside), { files });
    await using cleanup = new AsyncDisposableStack();
    cleanup.defer(() => rm(directory, { recursive: true, force: true }));
    cleanup.defer(() => removeOutside(outside).catch(() => undefined));
    cleanup.defer(() => removeProject(docker.engine, small.name));
    await prepare(small, outside);
    const own = (name: string): string => join(small.directory, name);
    const env = {
      ...{ TARS_PASSWORD: 'long enough', XDG_STATE_HOME: own('state'), DOCKER_HOST: docker.engine.host },
    };
    const run = (...args: readonly string[]): Promise<CliRun> => tars(args, { cwd: small.directory, env });
    const ok = async (...args: readonly string[]): Promise<string> => {
      const done = await run(...args);
      assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
      return done.stdout;
    };

    await ok('init', '--project', small.name);
    const text = await readFile(own('tars.yaml'), 'utf8');
    // A file that is added later, and one that is too large.
    const model = JSON.parse(await readFile(small.composeFile, 'utf8')) as {
      services: { web: { volumes: string[] } };
    };
    model.services.web.volumes.push('./late.conf:/late.conf');
    await writeFile(small.composeFile, JSON.stringify(model));
    await small.compose('up', '-d');
    const first = await run('backup', '--json');
    assert.equal(first.exitCode, 2, first.stderr);
    assert.match(first.stderr, /web:\/big\.iso is not in this snapshot.*too large for the configuration/);
    await writeFile(
      own('tars.yaml'),
      text.replace(/^(# )?leave_out:\n(#  .*\n)?/m, 'leave_out:\n  web:/big.iso: downloaded again\n'),
    );
    const { manifest } = JSON.parse(await ok('backup', '--json')) as { manifest: Manifest };
    assert.deepEqual(manifest.impliedFiles, [own('late.conf')]);
    const [network, side] = manifest.compose?.networks ?? [];
    assert.ok(network !== undefined && side !== undefined);
    assert.deepEqual([side.name, side.hasFixedAddress], [outside.side, false]);
    assert.deepEqual(network, {
      ...{ name: outside.edge, services: ['web'], driver: 'bridge', scope: 'local' },
      ...{ internal: false, attachable: false, ipv6: false, hasFixedAddress: true },
      ...{ options: { 'com.docker.network.driver.mtu': '1400' }, labels: { site: 'here' } },
      ranges: [{ subnet: `${range}.0/24`, gateway: `${range}.1` }],
    });
    const kinds = new Map(manifest.compose?.binds?.map(({ path, kind }) => [path, kind]));
    assert.equal(kinds.get(own('conf.d')), 'directory');
    for (const file of ['.env', 'Caddyfile', 'big.iso']) assert.equal(kinds.get(own(file)), 'file', file);
    assert.equal(kinds.get(join(directory, 'pw.txt')), 'file');

    // The Compose file is there, and wants a network that no snapshot knows.
    await removeProject(docker.engine, small.name);
    await removeOutside(outside);
    await rm(own('big.iso'));
    const lost = await readFile(small.composeFile, 'utf8');
    const never = JSON.parse(lost) as { networks: object; services: { web: { networks: object } } };
    Object.assign(never.networks, { never: { external: true, name: 'su never' } });
    Object.assign(never.services.web.networks, { never: {} });
    await writeFile(small.composeFile, JSON.stringify(never));
    const unknown = await run('restore', '--yes');
    assert.equal(unknown.exitCode, 1);
    assert.match(
      unknown.stderr,
      /need the network su never, the file \S+\/big\.iso: neither.*\n.*docker network create 'su never'; install -D -m 644 \/dev\/null \S+big\.iso/,
    );

    // All is lost.
    for (const name of [
      'app',
      'conf.d',
      'hot',
      'sites.d',
      '.env',
      'Caddyfile',
      'late.conf',
      'docker-compose.yml',
    ])
      await rm(own(name), { recursive: true });
    await rm(directory, { recursive: true });
    const named = await run('restore', '--dry-run');
    assert.equal(named.exitCode, 1);
    assert.match(named.stderr, /need the file \S+\/big\.iso: neither/);
    assert.deepEqual(await remains(docker.engine, small.name), []);
    await writeFile(own('big.iso'), '');
    const plan = await ok('restore', '--dry-run');
    assert.match(plan, new RegExp(`Create the network ${outside.edge}.*\\(bridge, ${range}\\.0/24\\)`));
    assert.match(plan, new RegExp(`Create the volume ${outside.vault}`));
    // The container's name is taken: whatever was created goes again.
    await docker.engine.docker(['create', '--name', `${outside.vault}-web`, idle.image]);
    const failed = await run('restore', '--yes');
    await docker.engine.docker(['rm', `${outside.vault}-web`]);
    assert.equal(failed.exitCode, 1, failed.stderr);
    assert.deepEqual(await remains(docker.engine, small.name), []);
    const left = ['ls', '--quiet', '--filter', `name=${id}`];
    assert.equal(await docker.engine.docker(['network', ...left]), '');
    assert.equal(await docker.engine.docker(['volume', ...left]), '');
    await assert.rejects(stat(own('hot')), { code: 'ENOENT' });

    // So are the addresses of a network in which none is fixed.
    const taken = `su-taken-${id}`;
    await docker.engine.docker(['network', 'create', '--subnet', side.ranges[0]?.subnet ?? '', taken]);
    cleanup.defer(async () => {
      await docker.engine.docker(['network', 'rm', taken]);
    });
    const restored = await run('restore', '--yes');
    assert.equal(restored.exitCode, 0, restored.stderr);
    assert.match(restored.stderr, new RegExp(`${outside.side} gets other addresses than at the capture`));

    assert.equal(await readFile(small.composeFile, 'utf8'), lost);
    assert.equal(await readFile(own('sites.d/s'), 'utf8'), 's\n');
    assert.equal(await readFile(own('late.conf'), 'utf8'), 'late\n');
    assert.equal(await readFile(join(directory, 'acme.json'), 'utf8'), '{"key":1}\n');
    assert.equal(await readFile(join(directory, 'pw.txt'), 'utf8'), 'quiet-harbour-12\n');
    assert.equal(await ownerOf(own('hot')), '1000:1000 710');
    assert.equal(await ownerOf(own('app')), '1000:1000 755');
    assert.equal(await ownerOf(join(directory, 'acme.json')), '1000:1000 600');
    await small.compose('up', '-d');
    assert.equal(
      await small.project.exec('web', [
        'sh',
        '-c',
        'cat /app/data/d /etc/web/conf.d/a.conf /run/secrets/pw /app/.env; echo n >/app/.cache/n && cat /app/.cache/n',
      ]),
      'd\na=1\nquiet-harbour-12\nA=1\nn',
    );
    const again = await docker.engine.docker(['network', 'inspect', '--format', '{{json .}}', outside.edge]);
    const {
      Options: options,
      Labels: labels,
      Containers: members,
    } = JSON.parse(again) as Record<string, object>;
    assert.deepEqual(options, network.options);
    assert.deepEqual(labels, network.labels);
    assert.match(JSON.stringify(members), new RegExp(`${range}\\.9`));
  },
);
