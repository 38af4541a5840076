import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { execa } from 'execa';
import { isCampaign } from '../fixtures/campaign.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { nodeImage } from '../fixtures/docker/node-image.ts';

const docker = await dockerForTests();
const skip = docker.skip !== false ? docker.skip : isCampaign ? false : 'in the campaign';
const root = join(import.meta.dirname, '../..');
/** As `engines` in package.json says. */
const oldestNode = '22.15.0';

/** What an operator types on a machine that has Node and npm, with what is to be backed up in /opt/app. */
const firstSteps = `
npm install -g /given/tars-backup-*.tgz >&2
tars --version 2>&1
mkdir -p /opt/app && cd /opt/app && echo LOG_LEVEL=info > app.env
tars init --yes --repository /mnt/backup/tars >&2 || [ $? -eq 1 ]
sed -i 's/^components:$/&\\n  config: { files: [app.env] }/' tars.yaml
tars doctor >&2
tars backup >&2
tars check --read-data >&2
rm app.env
tars restore --yes >&2
cat app.env
test -s "$(npm prefix -g)/share/man/man1/tars.1"
tars completion bash | bash -n
npm uninstall -g tars-backup >&2
useradd --create-home somebody && cp -r /given/. /home/somebody
su somebody -c 'cd && npm install -g --prefix ~/.local ./tars-backup-*.tgz >&2 && .local/bin/tars --version'
`;

test('from the tarball to a restore on a machine with Node and nothing else', { skip }, async () => {
  const given = await mkdtemp(join(tmpdir(), 'tars-given-'));
  try {
    await execa('npm', ['pack', '--pack-destination', given], { cwd: root });
    const [tarball = ''] = await readdir(given);
    const version = /^tars-backup-(.*)\.tgz$/.exec(tarball)?.[1];
    const image = await nodeImage(docker.engine, oldestNode);
    const run = ['run', '--rm', '--interactive', '--network', 'host', '--volume', `${given}:/given:ro`];
    const said = await docker.engine.docker([...run, image, 'sh', '-e'], {
      input: firstSteps,
      timeoutMs: 900_000,
    });
    assert.deepEqual(said.split('\n'), [version, 'LOG_LEVEL=info', version]);
  } finally {
    await rm(given, { recursive: true, force: true });
  }
});
