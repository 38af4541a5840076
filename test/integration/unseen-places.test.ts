import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { HnswFiles } from '../../src/components/chroma/direct/hnsw-files.ts';
import { processesWithOpenFile } from '../../src/components/chroma/physical/open-files.ts';
import { removeStaged } from '../../src/components/config/stage.ts';
import { missingFiles } from '../../src/runtimes/docker/compose/compose-cli.ts';
import { findComposeFile, withOverride } from '../../src/runtimes/docker/compose/compose-files.ts';
import { findFiles } from '../../src/runtimes/docker/discovery/inventory.ts';
import { readProject } from '../../src/runtimes/docker/project/project.ts';
import type { Engine } from '../../src/runtimes/docker/engine/engine.ts';

// Only "there is nothing" means that. A link that leads in a circle fails for root, too, and says something else.
let root: string;
let unseen: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-unseen-'));
  unseen = join(root, 'circle/file');
  await symlink('circle', join(root, 'circle'));
});
after(() => rm(root, { recursive: true }));

const refusal = /too many symbolic links|ELOOP/i;

test('what cannot be looked at is never taken for what is not there', async () => {
  await assert.rejects(findComposeFile(join(root, 'circle')), refusal);
  await assert.rejects(withOverride(join(root, 'circle/compose.yml')), refusal);
  await assert.rejects(missingFiles([unseen]), refusal);
  await assert.rejects(removeStaged([unseen], 'r1'), refusal);
  await assert.rejects(processesWithOpenFile(unseen), refusal);
  assert.throws(() => HnswFiles.exist(unseen), refusal);
  const nowhere = join(root, 'nowhere/file');
  assert.equal(await findComposeFile(nowhere), undefined);
  assert.deepEqual(await missingFiles([nowhere, root]), [nowhere]);
  await removeStaged([nowhere], 'r1');
  assert.deepEqual(await processesWithOpenFile(nowhere), []);
  assert.equal(HnswFiles.exist(nowhere), false);
});

test('a file of the project that cannot be looked at is listed, also one that may be missing', async () => {
  const [found] = await findFiles([], [], [unseen]);
  assert.equal(found?.path, unseen);
  assert.match(found.problem ?? '', refusal);
  assert.deepEqual(await findFiles([], [], [join(root, 'nowhere')]), []);
});

/** An Engine with one container of the project `lab`. */
function engineWith(labels: Readonly<Record<string, string>>): Engine {
  const info = {
    ...{
      Id: 'a1',
      Name: '/lab-db-1',
      Image: 'sha256:1',
      Path: 'redis',
      Args: [],
      Mounts: [],
      State: { Status: 'running' },
    },
    Config: {
      ...{ Image: 'redis', Env: [], Cmd: [], Entrypoint: [], Labels: labels },
    },
    HostConfig: { NetworkMode: 'bridge' },
    NetworkSettings: { Networks: {}, Ports: {} },
  };
  return {
    listContainers: () => Promise.resolve([{ Id: 'a1', Labels: labels }]),
    getContainer: () => ({ inspect: () => Promise.resolve(info) }),
  } as unknown as Engine;
}

test('what depends on what is read in the files of Compose 1, and not taken for nothing when they cannot be read', async () => {
  const service = { 'com.docker.compose.project': 'lab', 'com.docker.compose.service': 'db' };
  const made = (file: string) => ({ ...service, 'com.docker.compose.project.config_files': file });
  await assert.rejects(readProject(engineWith(made(unseen)), 'lab'), refusal);
  const ofTwo = await readProject(
    engineWith({ ...made(unseen), 'com.docker.compose.depends_on': '' }),
    'lab',
  );
  assert.deepEqual([...ofTwo.dependencies], [], 'Compose 2 says it itself');
  await mkdir(join(root, 'one'));
  const file = join(root, 'one/compose.yml');
  await writeFile(file, 'services: {db: {}, app: {depends_on: [db]}}\n');
  const ofOne = await readProject(engineWith(made(file)), 'lab');
  assert.deepEqual(ofOne.dependencies.get('app'), ['db']);
  assert.deepEqual([...(await readProject(engineWith(made(join(root, 'gone'))), 'lab')).dependencies], []);
});
