import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import { tars } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();

const services = {
  web: {
    ...{ image: 'tars-test/backend:1', command: ['sleep', '600'], init: true },
    volumes: ['uploads:/srv/uploads', 'cache:/srv/cache', './web.conf:/etc/web.conf:ro'],
  },
};

test(
  'what init found is captured, and comes back where the container sees it',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(docker.engine, 'fi-', services, {
      volumes: ['uploads', 'cache'],
      files: { 'web.conf': 'a = 1\n' },
    });
    await small.compose('up', '-d');
    const inWeb = (script: string): Promise<string> => small.project.exec('web', ['sh', '-c', script]);
    await inWeb(
      'cd /srv/uploads && mkdir -m 2750 d && echo one > d/one && ln -s d/one l && chown -R 33:33 d . && chmod 770 .',
    );
    const env = {
      TARS_PASSWORD: 'long enough',
      XDG_STATE_HOME: small.directory,
      DOCKER_HOST: docker.engine.host,
    };
    const ok = async (...args: readonly string[]): Promise<string> => {
      const done = await tars(args, { cwd: small.directory, env });
      assert.equal(done.exitCode, 0, done.stderr);
      return done.stdout;
    };
    await ok('init', '--project', small.name);
    const { manifest } = JSON.parse(await ok('backup', '--json')) as { manifest: Manifest };
    assert.deepEqual(
      manifest.components.map(({ name, kind, outcome }) => [name, kind, outcome]),
      [
        ['config', 'config', 'captured'],
        ['uploads', 'files', 'captured'],
      ],
    );
    // The mounted configuration file is in the config component.
    assert.deepEqual(
      manifest.notCaptured.map(({ mount, status }) => [mount?.source, status]),
      [[`${small.name}_cache`, 'left-out']],
    );
    assert.match(await ok('show'), /Left out: web:\/srv\/cache \(a cache, 0 B\)/);

    const look =
      "find /srv/uploads -name '.tars-prev-*' -prune -o -printf '%P %y %m %U:%G %l %T@\\n' | sort && cat /srv/uploads/d/one";
    const before = await inWeb(look);
    await inWeb('cd /srv/uploads && rm -r d && echo x > stranger && chown 0:0 . && chmod 700 .');
    await ok('restore', '--yes');
    assert.equal(await small.project.health('web'), 'running');
    assert.equal(withoutFractions(await inWeb(look)), withoutFractions(before));
  },
);

/** Times are restored to the microsecond. */
const withoutFractions = (text: string): string => text.replaceAll(/(\.\d{5})\d+$/gm, '$1');
