import assert from 'node:assert/strict';
import { mkdir, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isCampaign } from '../fixtures/campaign.ts';
import { composeCommand, dockerForTests, type TestEngine } from '../fixtures/docker/engine.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { remains, removeProject, startProject } from '../fixtures/docker/project.ts';
import { tarsOn } from '../fixtures/docker/tars-on.ts';
import { followPage, readRecoveryPage } from '../fixtures/recovery-page.ts';
import { stockRestics } from '../fixtures/restic.ts';

const docker = await dockerForTests();
const skip = docker.skip || (isCampaign ? false : 'only in a campaign');

/** Docker with Compose as a plugin, as people have it. */
async function dockerFor(engine: TestEngine, directory: string): Promise<Record<string, string>> {
  const environment = { DOCKER_HOST: engine.host, DOCKER_CONFIG: directory };
  const [program = 'docker', isPlugin] = await composeCommand('v2');
  if (isPlugin !== undefined) return environment;
  await mkdir(join(directory, 'cli-plugins'), { recursive: true });
  await symlink(program, join(directory, 'cli-plugins', 'docker-compose'));
  return environment;
}

for (const restic of stockRestics) {
  test(
    `a stranger brings a Compose project back by the printed page and restic ${restic.version}`,
    { skip },
    async () => {
      const start = {
        engine: docker.engine,
        prefix: 'ds-',
        composeVersion: 'v2',
        file: 'tars-home',
      } as const;
      await using project = await startProject(start);
      await using backup = await tarsOn(project, { compose: 'v2' });
      await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
      const models = await project.exec('ollama', ['ollama', 'list']);
      await project.writesOn(20);
      await backup.ok(['backup']);
      const cutMs = Date.parse((await backup.manifest()).time);
      const printed = join(backup.directory, 'page.txt');
      await backup.ok(['key', 'export', '--output', printed]);
      await removeProject(docker.engine, project.name);
      await rm(project.directory, { recursive: true });
      assert.deepEqual(await remains(docker.engine, project.name), []);

      await followPage(readRecoveryPage(await readFile(printed, 'utf8')), /./, {
        restic,
        workplace: join(backup.directory, 'workplace'),
        instead: { '/var/tmp/tars-rescue': join(backup.directory, 'rescue') },
        env: await dockerFor(docker.engine, join(backup.directory, 'docker-of-stranger')),
      });
      await project.waitHealthy();
      await project.docker('stop', await project.container('backend'));
      const differences = await compareWithLedger(project, await project.ledger(), {
        acknowledgedBeforeMs: cutMs,
      });
      assert.deepEqual(differences, []);
      const named = (list: string): string[] =>
        list.split('\n').map((line) =>
          line
            .split(/\s{2,}/)
            .slice(0, 3)
            .join(' '),
        );
      assert.deepEqual(named(await project.exec('ollama', ['ollama', 'list'])), named(models));
    },
  );
}
