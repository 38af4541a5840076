import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { commandTree } from '../../src/cli/render/command-tree.ts';
import { freePort } from '../../src/demo/servers/common.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { setScene, type DocumentedScene } from '../fixtures/docker/documented-scene.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { removeProject } from '../fixtures/docker/project.ts';
import {
  commandsInText,
  crontabCommands,
  documentedBlocks,
  Reader,
  type DocumentedBlock,
} from '../fixtures/documented.ts';
import { programToRead } from '../fixtures/program.ts';
import { linkTars } from '../fixtures/tars-link.ts';

const docker = await dockerForTests();
const skip = docker.skip || (process.getuid?.() === 0 ? false : 'another user’s crontab needs root');
const root = join(import.meta.dirname, '../..');
const runbook = join(root, 'docs/BACKUP_RECOVERY.md');

/** What else stands in the runbook, and what it is here. */
async function morePlaces({ project, home }: DocumentedScene): Promise<Record<string, string>> {
  const ports = ['18000', '15432', '16379', '21434'];
  const free = await Promise.all(ports.map(async (port) => [port, `${await freePort()}`] as const));
  return {
    'deploy/backup-tars.sh': join(root, 'deploy/backup-tars.sh'),
    '/tmp/rescue/tars/tars-home': `${home}/rescue/tars/${project.name}`,
    ...Object.fromEntries(['rescue', 'damaged'].map((place) => [`/tmp/${place}`, join(home, place)])),
    ...Object.fromEntries(free),
    '--project rehearsal ': `--project ${project.name}-rehearsal `,
    '-p rehearsal ': `-p ${project.name}-rehearsal `,
  };
}

test('every command of the runbook, in its order, on a running project', { skip }, async (t) => {
  await using scene = await setScene(docker.engine, 'rb-');
  const { project, home, env, places } = scene;
  await using _rehearsal = {
    [Symbol.asyncDispose]: () => removeProject(docker.engine, `${project.name}-rehearsal`),
  };
  await using _tars = await linkTars(scene.bin);
  const reader = new Reader({ ...places, ...(await morePlaces(scene)) }, env, project.directory);
  const run = (name: string, block: Omit<DocumentedBlock, 'heading'>): Promise<void> =>
    t.test(name, async () => {
      await knowArchive(reader, join(home, 'mnt/nas'));
      await reader.run(block);
      // Any reader takes the cost of a key from its file: the dozens of commands that follow open it cheaply.
      if (block.text.includes('tars init '))
        await cheapenKey(join(home, 'mnt/backup/tars'), await keyOf(project.directory));
    });
  await project.writesOn(10);
  const blocks = await documentedBlocks(runbook);
  assert.ok(blocks.length > 20);
  for (const block of blocks) await run(`${block.heading} (${block.place})`, block);
  for (const text of await crontabCommands(runbook))
    await run(`crontab: ${text}`, { place: runbook, text, exitCode: 0, expected: [] });
  await project.waitHealthy();
  await project.writesOn(5);
});

const keyOf = async (directory: string): Promise<string> =>
  (await readFile(join(directory, 'tars-recovery.key'), 'utf8')).trimEnd();

/** The archive of the example, once there is one. */
async function knowArchive({ places: known }: Reader, nas: string): Promise<void> {
  const archive = (await readdir(nas))
    .filter((name) => name.endsWith('.tar.gz'))
    .sort()
    .at(-1);
  if (archive !== undefined) known.set('tars-backup-20261124_030000.tar.gz', archive);
}

test('verbs and options named in running text exist', async () => {
  const program = commandTree(programToRead());
  for (const document of [runbook, join(root, 'README.md'), join(root, 'docs/FORMAT.md')]) {
    for (const command of await commandsInText(document)) {
      const [, verb, word] = command.split(' ');
      const named = program.commands.find(({ name }) => name === verb);
      assert.ok(named, `${document}: ${command}`);
      const { options } = named.commands.find(({ name }) => name === word) ?? named;
      const known = new Set([...options, ...program.options].map(({ long }) => long));
      for (const option of command.match(/--[a-z-]+/g) ?? [])
        assert.ok(known.has(option), `${document}: ${command}: there is no ${option}`);
    }
  }
});
