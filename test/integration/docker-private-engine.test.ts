import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { startPrivateEngine } from '../fixtures/docker/private-engine.ts';
import { startProject } from '../fixtures/docker/project.ts';

const { skip } = await dockerForTests();
const root = process.getuid?.() === 0;

test(
  'a private Engine can be stopped and killed in the middle of a project',
  { skip: skip || (root ? false : 'needs root') },
  async () => {
    await using engine = await startPrivateEngine();
    await using project = await startProject({
      engine,
      prefix: 'fx-own-',
      composeVersion: 'v2',
      file: 'tars-home',
      publishPorts: false,
    });
    await project.writesOn(5);
    const address = await project.address('chromadb');
    assert.ok(
      (await fetch(`http://${address}:8000/api/v2/version`)).ok,
      'this machine reaches its containers',
    );

    await engine.stop();
    assert.equal(engine.pid(), undefined);
    await assert.rejects(project.docker('ps'));
    await engine.start();
    await project.waitHealthy();
    await project.writesOn(5);

    await engine.kill();
    await assert.rejects(project.docker('ps'));
    await project.writesOn(5);
    await engine.start();
    await project.compose('up', '-d');
    await project.waitHealthy();
    await project.writesOn(5);

    await project.compose('stop', 'backend');
    const entries = await project.ledger();
    assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: Infinity }), []);
  },
);
