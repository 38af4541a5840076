import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import type { Diagnosis } from '../../src/operations/doctor/doctor.ts';
import type { SnapshotSummary } from '../../src/model/snapshot.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { removeProject } from '../fixtures/docker/project.ts';
import { smallProject, type SmallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();

const idle = { image: 'tars-test/backend:1', command: ['sleep', '600'], init: true };

/** A volume in a directory, both shared, in several services and twice in one; a cache; configuration; an anonymous volume. */
const services = {
  web: {
    ...idle,
    volumes: [
      ...['./data:/srv', 'uploads:/srv/uploads', 'cache:/app/.cache', './conf.d:/etc/web/conf.d'],
      ...['./Caddyfile:/etc/caddy/Caddyfile:ro', '/etc/localtime:/etc/localtime:ro'],
    ],
  },
  worker: { ...idle, volumes: ['./data:/srv', './data/index:/index', 'uploads:/a', 'uploads:/b'] },
  // Its image declares a volume.
  bare: { ...idle, image: 'redis:7-tars-test', entrypoint: [], labels: { 'com.tars.service': 'none' } },
};

/** What the services keep. */
const fill =
  'mkdir -p /srv/index && echo d >/srv/d && echo i >/srv/index/i && echo u >/srv/uploads/u && echo c >/app/.cache/c && echo a=1 >/etc/web/conf.d/a.conf';
const look = 'cat /srv/d /srv/index/i /srv/uploads/u /etc/web/conf.d/a.conf; ls /app/.cache';

const parts = [
  ...[
    ['bare-data', 'bare', '/data'],
    ['conf-d', 'web', '/etc/web/conf.d'],
  ],
  ...[
    ['data', 'web', '/srv'],
    ['uploads', 'web', '/srv/uploads'],
  ],
] as const;

interface Operator {
  readonly run: (...args: readonly string[]) => Promise<CliRun>;
  readonly ok: (...args: readonly string[]) => Promise<string>;
  /** `tars.yaml` with a change. */
  readonly edit: (change: (text: string) => string) => Promise<void>;
}

function operatorOf({ directory }: SmallProject): Operator {
  const env = {
    TARS_PASSWORD: 'long enough',
    XDG_STATE_HOME: join(directory, 'state'),
    DOCKER_HOST: docker.engine.host,
  };
  const run = (...args: readonly string[]): Promise<CliRun> => tars(args, { cwd: directory, env });
  return {
    run,
    async ok(...args) {
      const done = await run(...args);
      assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
      return done.stdout;
    },
    async edit(change) {
      const path = join(directory, 'tars.yaml');
      await writeFile(path, change(await readFile(path, 'utf8')));
    },
  };
}

const manifestIn = (text: string): Manifest => (JSON.parse(text) as { manifest: Manifest }).manifest;

test(
  'whole by default: what init writes captures every place once, and what is added later',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(docker.engine, 'pl-', services, {
      volumes: ['uploads', 'cache', 'late'],
      files: { Caddyfile: ':80\n' },
    });
    await mkdir(join(small.directory, 'conf.d'));
    await small.compose('up', '-d');
    const inWeb = (script: string): Promise<string> => small.project.exec('web', ['sh', '-c', script]);
    await inWeb(fill);
    const kept = await inWeb(look);
    const { run, ok, edit } = operatorOf(small);

    await ok('init', '--project', small.name);
    const written = parse(await readFile(join(small.directory, 'tars.yaml'), 'utf8')) as Record<
      string,
      object
    >;
    const { config: _config, ...directories } = written['components'] as Record<string, object>;
    assert.deepEqual(
      directories,
      Object.fromEntries(parts.map(([name, service, inside]) => [name, { kind: 'files', service, inside }])),
    );
    assert.deepEqual(written['leave_out'], {
      'web:/app/.cache': 'a cache',
      'web:/etc/localtime': 'the time zone of this machine',
    });
    assert.deepEqual(Object.keys(written['services'] ?? {}).sort(), ['bare', 'web', 'worker']);

    // A busy machine is no reason for less than a cut.
    await edit((text) => `${text}\npause_max_ms: 60000\n`);
    const first = manifestIn(await ok('backup', '--json'));
    assert.deepEqual(
      first.components.map(({ name }) => name).sort(),
      ['config', ...parts.map(([name]) => name)].sort(),
    );
    assert.deepEqual(
      first.notCaptured.map(({ subject, status }) => [subject, status]),
      [
        ['web:/app/.cache', 'left-out'],
        ['web:/etc/localtime', 'left-out'],
      ],
    );
    assert.equal(first.consistency, 'cut', first.consistencyReason);
    assert.match(await ok('show'), / complete\n[^]*Left out: web:\/app\/\.cache \(a cache, /);

    // A file that Compose does not name, and that no component holds.
    await writeFile(join(small.directory, '.env.production'), 'APP_KEY=quiet-harbour-12\n');
    const { diagnoses } = JSON.parse(await ok('doctor', '--json')) as { diagnoses: Diagnosis[] };
    const found = diagnoses.filter(
      ({ check }) => check === 'application secrets' || check === 'not captured',
    );
    assert.deepEqual(
      found.map(({ state, found: text }) => [state, text.split(':')[0]]),
      [['warning', `No component holds ${join(small.directory, '.env.production')}`]],
    );

    // A service with a volume and one that writes into itself are added, and no one edits tars.yaml.
    const late = {
      late: { ...idle, volumes: ['late:/kept'] },
      layer: { ...idle, command: ['sh', '-c', 'mkdir -p /data && echo x >/data/data.db && sleep 600'] },
    };
    const model = parse(await readFile(small.composeFile, 'utf8')) as { services: object };
    await writeFile(
      small.composeFile,
      JSON.stringify({ ...model, services: { ...model.services, ...late } }),
    );
    await small.compose('up', '-d');
    await small.project.exec('late', ['sh', '-c', 'echo l >/kept/l']);
    const second = await run('backup', '--json');
    assert.equal(second.exitCode, 2, second.stderr);
    assert.match(second.stderr, /layer:\/data is not in this snapshot: it lies in the container itself/);
    assert.match(second.stderr, /leave_out: in tars\.yaml: layer:\/data: the reason/);
    const { implied, notCaptured, outcome } = manifestIn(second.stdout);
    assert.deepEqual(implied, [{ component: 'late', service: 'late', inside: '/kept' }]);
    assert.deepEqual(
      notCaptured.filter(({ status }) => status === 'missing').map(({ subject }) => subject),
      ['layer:/data'],
    );
    assert.equal(outcome, 'complete', 'every component is');
    const list = JSON.parse(await ok('snapshots', '--json')) as SnapshotSummary[];
    assert.deepEqual(
      list.map(({ tags }) => tags),
      [['tars'], ['tars', 'not-whole']],
    );
    assert.match(await ok('snapshots'), /complete, not whole/);
    assert.match(await ok('show'), /complete, without 1 place\n/);
    const status = await run('status');
    assert.match(status.stdout, /The last backup is partial: it lacks layer:\/data/);
    assert.equal(status.exitCode, 2);

    // Whoever writes the line down has said it.
    await edit((text) => text.replace('leave_out:\n', 'leave_out:\n  layer:/data: for this test\n'));
    await ok('backup');

    // One place is restored once, while all that write to it stand still.
    await inWeb('rm -r /srv/d /srv/index && echo x >/srv/uploads/u && rm /etc/web/conf.d/a.conf');
    const plan = await ok('restore', '--dry-run');
    assert.match(plan, /stop for the swap: (?=.*\bweb\b)(?=.*\bworker\b)/);
    await small.compose('stop', 'late');
    await ok('restore', '--yes');
    assert.equal(await inWeb(look), kept);
    assert.equal(
      await small.project.health('late'),
      'running',
      'it ran at the capture, and its directory is back',
    );

    // All of it is lost: the directories, the volumes, the containers.
    await removeProject(docker.engine, small.name);
    for (const name of ['data', 'conf.d', 'Caddyfile', 'docker-compose.yml'])
      await rm(join(small.directory, name), { recursive: true });
    const lost = await ok('restore', '--dry-run');
    for (const [name] of parts) assert.match(lost, new RegExp(`Restore ${name} into its new container`));
    assert.match(lost, /Restore late into its new container/);
    await ok('restore', '--yes');
    assert.equal(await inWeb(look), kept.replace(/\nc$/, ''));
    assert.equal(await small.project.exec('late', ['cat', '/kept/l']), 'l');
  },
);
