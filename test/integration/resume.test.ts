import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { addModel } from '../fixtures/bulk-stack.ts';
import { campaignSeed, counted } from '../fixtures/campaign.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { cliPath, tars } from '../fixtures/cli.ts';

/** An index file is written after 256 MiB: some of the model must be left then. */
const modelBytes = counted(288 << 20, 2 ** 33);
/** The run dies when it has saved so many index files; the last of them come late in a run. */
const indexFilesBeforeKill = counted(1, 12);
const dieAtIndex = fileURLToPath(new URL('../fixtures/die-at-index.ts', import.meta.url));

interface Listed {
  readonly blobs: readonly string[];
  readonly bytes: number;
}

interface Place {
  readonly root: string;
  readonly settingsPath: string;
  readonly repositoryPath: string;
  readonly passwordFile: string;
  readonly restic: (...args: string[]) => Promise<string>;
}

/** A stack of one model, and its repository. */
async function modelStack(): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'tars-resume-'));
  const settingsPath = join(root, 'tars.yaml');
  const repositoryPath = join(root, 'repository');
  const passwordFile = join(root, 'tars-recovery.key');
  const store = join(root, 'models');
  await mkdir(store);
  await addModel(store, 'large', modelBytes, campaignSeed);
  const settings = {
    version: 1,
    stack: 'resume',
    repository: { path: repositoryPath, password_file: passwordFile },
    scratch_dir: root,
    state_dir: join(root, 'state'),
    components: { ollama: { path: store, models: 'all' } },
  };
  await writeFile(settingsPath, stringify(settings));
  const restic = async (...args: string[]): Promise<string> => {
    const run = await execa('restic', ['-r', repositoryPath, '--no-cache', ...args], {
      env: { RESTIC_PASSWORD_FILE: passwordFile },
      reject: false,
      all: true,
    });
    assert.equal(run.exitCode, 0, `restic ${args.join(' ')}: ${run.all}`);
    return run.stdout.trim();
  };
  return { root, settingsPath, repositoryPath, passwordFile, restic };
}

/** Whole files only: one that is being written has another name yet. */
const names = async (directory: string): Promise<string[]> =>
  (await readdir(directory, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /^[0-9a-f]{64}$/.test(entry.name))
    .map(({ name }) => name);

/** Starts a backup, which dies as soon as it has saved the wanted number of index files. */
async function killAfterIndex({ settingsPath }: Place): Promise<void> {
  const args = ['--import', dieAtIndex, cliPath, '--config', settingsPath, 'backup'];
  const { signal, all } = await execa(process.execPath, args, {
    ...{ reject: false, all: true, stdin: 'ignore' },
    env: { TARS_INDEX_FILES: String(indexFilesBeforeKill) },
  });
  assert.equal(signal, 'SIGKILL', all);
}

/** What the index files of the repository know, as stock restic reads them. */
async function indexed({ restic }: Place): Promise<Listed> {
  const blobs: string[] = [];
  let bytes = 0;
  for (const id of (await restic('list', 'index')).split('\n').filter(Boolean)) {
    const { packs } = JSON.parse(await restic('cat', 'index', id)) as {
      packs: { blobs: { id: string; length: number }[] }[];
    };
    for (const blob of packs.flatMap((pack) => pack.blobs)) {
      blobs.push(blob.id);
      bytes += blob.length;
    }
  }
  return { blobs, bytes };
}

test(`a backup of a ${modelBytes / 2 ** 20} MiB model goes on where a killed one was (seed ${campaignSeed})`, async (t) => {
  const place = await modelStack();
  t.after(() => rm(place.root, { recursive: true, force: true }));
  const { settingsPath, repositoryPath, passwordFile, restic } = place;
  const command = (...args: string[]): ReturnType<typeof tars> => tars(['--config', settingsPath, ...args]);
  const init = await command('init');
  assert.equal(init.exitCode, 0, init.stderr);
  await cheapenKey(repositoryPath, (await readFile(passwordFile, 'utf8')).trim());

  await killAfterIndex(place);
  const before = await indexed(place);
  const packsBefore = await names(join(repositoryPath, 'data'));
  assert.deepEqual(await names(join(repositoryPath, 'snapshots')), [], 'it was killed before it ended');
  assert.ok(before.bytes > 0 && before.bytes < modelBytes, `${before.bytes} bytes were indexed`);

  const unlock = await command('unlock');
  assert.equal(unlock.exitCode, 0, unlock.stderr);
  assert.match(unlock.stdout, /Removed locks: 1/);
  const next = await command('backup', '--json');
  assert.equal(next.exitCode, 0, next.stderr);
  const { addedBytes, processedBytes } = JSON.parse(next.stdout) as {
    addedBytes: number;
    processedBytes: number;
  };
  assert.ok(processedBytes >= modelBytes);
  const missingBytes = modelBytes - before.bytes;
  // Headers, trees and the manifest come on top: some kilobytes.
  const detail = `${before.bytes} of ${modelBytes} bytes indexed in ${packsBefore.length} packs, ${addedBytes} added`;
  assert.ok(addedBytes < missingBytes + (1 << 20), detail);
  assert.ok(addedBytes > missingBytes - (1 << 20), detail);
  t.diagnostic(detail);

  const after = await indexed(place);
  assert.equal(new Set(after.blobs).size, after.blobs.length, 'no blob is stored twice');
  const listed = (await restic('list', 'blobs')).split('\n');
  assert.equal(new Set(listed).size, listed.length, 'restic sees no blob twice');
  for (const id of before.blobs) assert.ok(after.blobs.includes(id));
  const check = await restic('check', '--read-data');
  assert.match(check, /no errors were found/);
});
