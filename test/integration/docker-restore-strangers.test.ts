import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { remains, removeProject, startProject } from '../fixtures/docker/project.ts';
import { tarsOn } from '../fixtures/docker/tars-on.ts';

const docker = await dockerForTests();
const { skip } = docker;

test(
  'with Compose 1, other names, a volume from outside and bind mounts: up again from nothing',
  { skip },
  async () => {
    await using project = await startProject({
      engine: docker.engine,
      prefix: 'dr-v1-',
      composeVersion: 'v1',
      file: 'strangers',
    });
    const files = ['compose.yaml', '.env', 'api.env'].map((file) => join(project.directory, file));
    await using backup = await tarsOn(project, {
      compose: 'v1',
      settings: {
        components: {
          db: { kind: 'postgres', service: 'db' },
          reporting: { kind: 'postgres', service: 'reporting' },
          redis: { service: 'cache' },
          chroma: { service: 'vectors' },
          ollama: { service: 'llm', models: 'all' },
          config: { files },
        },
      },
    });
    await project.writesOn(10);
    // So that nothing is written between the cut and the comparison.
    await project.compose('stop', 'api');
    await backup.ok(['backup']);
    const { compose } = await backup.manifest();
    assert.deepEqual(compose?.composeFiles, [files[0]]);
    assert.equal(compose.services.find(({ name }) => name === 'api')?.state, 'stopped');
    await removeProject(docker.engine, project.name, project.externalVolumes);
    await rm(project.directory, { recursive: true });

    const plan = await backup.ok(['restore', '--dry-run']);
    assert.match(plan.stdout, new RegExp(`volumes .*${project.externalVolumes[0] ?? ''}`));
    assert.deepEqual(await remains(docker.engine, project.name), []);
    await backup.ok(['restore', '--yes']);
    const entries = await project.ledger();
    assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: Infinity }), []);
    assert.equal(await project.health('api'), 'created', 'what did not run is there, and does not run');
    const key = '{{index .Config.Labels "com.docker.compose.version"}}';
    assert.match(await project.docker('inspect', '--format', key, await project.container('db')), /^1\./);
  },
);
