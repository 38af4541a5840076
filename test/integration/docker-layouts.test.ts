import { randomBytes } from 'node:crypto';
import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { tars } from '../fixtures/cli.ts';
import { attachApp, type CountingApp } from '../fixtures/docker/counting-app.ts';
import { composeCommand, dockerForTests } from '../fixtures/docker/engine.ts';
import { oddLayouts, textOf, type OddLayout } from '../fixtures/docker/odd-layouts.ts';
import { attachProject, removeProject, type DockerProject } from '../fixtures/docker/project.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const password = 'long enough';

/** A layout on this machine. */
interface Laid extends AsyncDisposable {
  readonly directory: string;
  readonly project: DockerProject;
  readonly apps: readonly CountingApp[];
  /** What the user does to bring it up. */
  up(): Promise<void>;
  /** The machine is lost, but for tars.yaml and the repository. */
  lose(): Promise<void>;
  /** What must come back, by service. */
  look(): Promise<Readonly<Record<string, string>>>;
  /** By service: the container and what Compose says it was created from. */
  containers(): Promise<readonly string[]>;
}

async function lay(layout: OddLayout): Promise<Laid> {
  const { engine } = docker;
  const name = `la-${randomBytes(4).toString('hex')}`;
  const root = await mkdtemp(join(tmpdir(), 'tars-layout-'));
  await chmod(root, 0o755);
  const directory = join(root, name);
  await mkdir(directory);
  for (const [path, content] of Object.entries(layout.files)) {
    await mkdir(join(directory, path.endsWith('/') ? path : dirname(path)), { recursive: true });
    if (!path.endsWith('/')) await writeFile(join(directory, path), textOf(content, name));
  }
  for (const [path, owner] of Object.entries(layout.owners ?? {}))
    await chown(join(directory, path), owner, owner);
  const project = attachProject(engine, name, 'tars-home');
  const named = (names: readonly string[] = []): string[] => names.map((each) => textOf(each, name));
  const [networks, volumes] = [named(layout.outside?.networks), named(layout.outside?.volumes)];
  for (const network of networks) await engine.docker(['network', 'create', network]);
  for (const volume of volumes) await engine.docker(['volume', 'create', volume]);
  const apps = Object.entries(layout.apps).map(([service, place]) => attachApp(project, service, place));
  const removeAll = async (): Promise<void> => {
    await removeProject(engine, name, volumes);
    if (networks.length > 0) await engine.docker(['network', 'rm', '--force', ...networks]);
  };
  const scripts = async (of: Readonly<Record<string, string>>): Promise<Record<string, string>> => {
    const said: Record<string, string> = {};
    for (const [service, script] of Object.entries(of))
      said[service] = await project.exec(service, ['sh', '-ec', script]);
    return said;
  };
  return {
    ...{ directory, project, apps },
    async up() {
      for (const args of layout.up) await engine.compose('v2', named(args), { cwd: directory });
    },
    async lose() {
      await removeAll();
      for (const entry of await readdir(root))
        if (![name, 'repository', 'bin'].includes(entry)) await rm(join(root, entry), { recursive: true });
      for (const entry of await readdir(directory))
        if (entry !== 'tars.yaml') await rm(join(directory, entry), { recursive: true });
    },
    look: () => scripts(layout.look),
    async containers() {
      const format =
        '{{.Label "com.docker.compose.service"}} {{.ID}} {{.Label "com.docker.compose.config-hash"}}';
      const filter = `label=com.docker.compose.project=${name}`;
      const said = await engine.docker(['ps', '--all', '--no-trunc', '--filter', filter, '--format', format]);
      return said.split('\n').sort();
    },
    async [Symbol.asyncDispose]() {
      await removeAll();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** A PATH with the Compose that brings the layouts up: each version computes hashes of its own. */
async function composePath(bin: string): Promise<string> {
  const [compose = '', ...plugin] = await composeCommand('v2');
  if (plugin.length === 0) {
    await mkdir(bin);
    await symlink(compose, join(bin, 'docker-compose'));
  }
  return `${bin}${delimiter}${process.env['PATH'] ?? ''}`;
}

/** `tars` as the operator of a layout runs it. */
async function operatorOf({ directory }: Laid): Promise<(...args: readonly string[]) => Promise<string>> {
  const path = await composePath(join(dirname(directory), 'bin'));
  const env = {
    TARS_PASSWORD: password,
    XDG_STATE_HOME: join(dirname(directory), 'state'),
    DOCKER_HOST: docker.engine.host,
  };
  return async (...args) => {
    const done = await tars(args, { cwd: directory, env, path });
    assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
    return done.stdout;
  };
}

/** In the gate, those whose traits no other test has. */
const tried = oddLayouts.filter(({ isInGate }) => isCampaign || isInGate === true);

for (const layout of tried) {
  test(`all of a project comes back: ${layout.traits}`, { skip: docker.skip }, async () => {
    await using laid = await lay(layout);
    await laid.up();
    for (const app of laid.apps)
      await eventually('the application counts', async () => (await app.acknowledged()) > 10, 120_000);
    for (const [service, script] of Object.entries(layout.fill))
      await laid.project.exec(service, ['sh', '-ec', script]);
    const kept = await laid.look();
    const before = await laid.containers();
    const ok = await operatorOf(laid);

    const repository = join(dirname(laid.directory), 'repository');
    await ok('init', '--yes', '--repository', repository);
    await cheapenKey(repository, password);
    const acknowledged = await Promise.all(laid.apps.map((app) => app.acknowledged()));
    const { manifest } = JSON.parse(await ok('backup', '--json')) as { manifest: Manifest };
    assert.deepEqual(
      manifest.notCaptured.filter(({ status }) => status === 'missing'),
      [],
    );
    assert.equal(manifest.consistency, 'cut', manifest.consistencyReason);

    await laid.lose();
    await ok('restore', '--yes');
    for (const [i, app] of laid.apps.entries()) {
      await eventually('the application has started', async () => (await app.starts()) > 1, 120_000);
      await app.assertWhole(acknowledged[i] ?? 0);
    }
    assert.deepEqual(await laid.look(), kept);
    const restored = await laid.containers();
    await laid.up();
    // Compose creates a container again when it would differ.
    assert.deepEqual(await laid.containers(), restored);
    const hashes = (lines: readonly string[]): string[] => lines.map((line) => line.replace(/ \S+ /, ' '));
    assert.deepEqual(hashes(restored), hashes(before));
  });
}
