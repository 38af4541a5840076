import assert from 'node:assert/strict';
import { execa } from 'execa';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { createRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { replaceKeys } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { composeCommand, dockerForTests } from '../fixtures/docker/engine.ts';
import { removeProject } from '../fixtures/docker/project.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const skip = docker.skip === false && process.getuid?.() !== 0 ? 'needs root' : docker.skip;
const ctx = testContext();
const password = 'correct-horse';
const shell = {
  CACHE_PASSWORD: "it's $ecret #1",
  CACHE_TAG: '7-tars-test',
  CACHE_ROLE: 'primary',
  CACHE_NET: 'in',
};

test(
  'variables that only a shell had: a project comes back from nothing as it was, and the one that cannot is named',
  { skip },
  async (t) => {
    await using cleanup = new AsyncDisposableStack();
    const own = await mkdtemp(join(tmpdir(), 'tars-shell-'));
    cleanup.defer(() => rm(own, { recursive: true, force: true }));
    const small = cleanup.use(
      await smallProject(
        docker.engine,
        'shell-',
        {
          cache: {
            image: 'redis:${CACHE_TAG}',
            command: ['redis-server', '--requirepass', '${CACHE_PASSWORD}'],
            environment: ['ROLE=${CACHE_ROLE:-replica}'],
            volumes: ['cache:/data'],
            sysctls: { 'net.core.somaxconn': '${CACHE_BACKLOG:-1024}' },
            domainname: '${CACHE_NET}',
          },
        },
        { volumes: ['cache'] },
      ),
    );
    const included = join(small.directory, 'part');
    await mkdir(included);
    await writeFile(join(included, '.env'), 'PART_TAG=7-tars-test\n');
    await writeFile(
      join(included, 'compose.yml'),
      stringify({
        services: { side: { image: 'redis:${PART_TAG}', environment: { WORD: '${PART_WORD}' } } },
      }),
    );
    const whole = `${await readFile(small.composeFile, 'utf8')}include: [part/compose.yml]\n`;
    await writeFile(small.composeFile, whole);
    const files = [small.composeFile, join(included, 'compose.yml'), join(included, '.env')];

    const bin = join(own, 'bin');
    await mkdir(bin);
    const command = await composeCommand('v2');
    if (command.length === 1)
      await symlink((await execa('which', [command[0] ?? ''])).stdout, join(bin, 'docker-compose'));
    const env = { PATH: [bin, process.env['PATH'] ?? ''].join(delimiter) };
    const [program = '', ...argv] = command;
    await execa(program, [...argv, '-p', small.name, 'up', '-d'], {
      ...{ cwd: small.directory, stdin: 'ignore' },
      env: { DOCKER_HOST: docker.engine.host, ...shell, PART_WORD: 'included' },
    });

    const settings = {
      ...{ version: 1, stack: 'home', state_dir: join(own, 'state'), scratch_dir: join(own, 'scratch') },
      repository: { path: join(own, 'repository'), password_file: join(own, 'key') },
      docker: { project: small.name, host: docker.engine.host, compose_files: [small.composeFile] },
      components: { redis: { service: 'cache' }, config: { files } },
      services: { side: { writer: false } },
    };
    await writeFile(join(own, 'tars.yaml'), stringify(settings));
    await writeFile(join(own, 'key'), password, { mode: 0o600 });
    const repository = createLocalStorage(join(own, 'repository'));
    await replaceKeys(await createRepository(repository, password, ctx), password, ctx);
    const run = (...args: string[]): Promise<CliRun> =>
      tars([...args, '--config', join(own, 'tars.yaml')], { env });
    const redis = (...args: string[]): Promise<string> =>
      small.project.exec('cache', ['redis-cli', '--no-auth-warning', '-a', shell.CACHE_PASSWORD, ...args]);
    const answers = (): Promise<boolean> =>
      redis('ping').then(
        (said) => said === 'PONG',
        () => false,
      );
    await eventually('the cache answers', answers);
    await redis('set', 'word', 'captured');

    await t.test('a backup keeps the values with the configuration, and shows none', async () => {
      const { exitCode, stdout, stderr } = await run('backup');
      assert.equal(exitCode, 0, stderr);
      const said = `${stdout}\n${stderr}`;
      assert.match(stderr, /The Compose files use CACHE_NET, which only a shell defined/);
      assert.match(stderr, /cache does not run as its Compose files now describe it/, 'without CACHE_NET');
      assert.doesNotMatch(stderr, /use .*CACHE_(PASSWORD|TAG|ROLE)|PART_WORD/);
      const archive = await run('backup', '--output-dir', join(own, 'archive'));
      assert.equal(archive.exitCode, 0, archive.stderr);
      assert.match(
        archive.stderr,
        /use CACHE_NET, CACHE_PASSWORD, CACHE_ROLE, CACHE_TAG, PART_WORD, which only/,
      );
      const [name = ''] = (await readdir(join(own, 'archive'))).filter((each) => each.endsWith('.tar.gz'));
      const plain = await execa('tar', ['-xzOf', join(own, 'archive', name)], { encoding: 'latin1' });
      const manifest = (await run('show', '--json')).stdout;
      for (const text of [said, archive.stderr, plain.stdout, manifest])
        assert.ok(!text.includes('$ecret') && !text.includes('primary'), text.slice(0, 2000));
    });

    await t.test('a service that runs as its files say is not named any more', async () => {
      await writeFile(small.composeFile, whole.replace('${CACHE_NET}', 'in'));
      const same = await run('backup');
      assert.equal(same.exitCode, 0, same.stderr);
      assert.doesNotMatch(same.stderr, /does not run as its Compose files/);
    });

    await t.test('from nothing, a restore brings the project up with the values it had', async () => {
      await removeProject(docker.engine, small.name);
      for (const name of await readdir(small.directory))
        await rm(join(small.directory, name), { recursive: true });
      await chmod(small.directory, 0o755);
      const shellFile = join(small.directory, '.env.tars');
      const plan = await run('restore', '--dry-run');
      assert.match(plan.stdout, new RegExp(`Restore ${shellFile}`), plan.stderr);
      const restored = await run('restore', '--yes');
      assert.equal(restored.exitCode, 0, `${restored.stderr}\n${restored.stdout}`);
      assert.equal((await stat(shellFile)).mode & 0o777, 0o600);
      await eventually('the cache answers', answers);
      assert.equal(await redis('get', 'word'), 'captured');
      const environment = await small.project.exec('cache', ['env']);
      assert.match(environment, /^ROLE=primary$/m);
      assert.match(await small.project.exec('side', ['env']), /^WORD=included$/m);
      assert.match(
        restored.stderr,
        /\.env\.tars holds CACHE_PASSWORD, CACHE_ROLE, CACHE_TAG, PART_WORD, which no/,
      );
      assert.doesNotMatch(
        (await run('backup')).stderr,
        /only a shell defined|as its Compose files now describe/,
        'Compose reads it again',
      );
    });
  },
);
