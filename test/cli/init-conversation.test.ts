import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { parse } from 'yaml';
import type { Diagnosis } from '../../src/operations/doctor/doctor.ts';
import { cliPath, tars } from '../fixtures/cli.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tars-init-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** No Engine, whatever this machine has. */
const environment = { DOCKER_HOST: 'unix:///nowhere/docker.sock', XDG_STATE_HOME: '/nowhere' };

const composeFile = `name: home
services:
  db: { image: "postgres:15", environment: { POSTGRES_PASSWORD: hush-hush-12 } }
  api: { image: "api:1", depends_on: [db], env_file: api.env }
`;

async function writeProject(): Promise<void> {
  await writeFile(join(directory, 'compose.yaml'), composeFile);
  await writeFile(join(directory, 'api.env'), 'LOG_LEVEL=info\n');
}

/** What is typed once a text is shown, which is looked for after the one before. */
type Answer = readonly [shown: string, keys: string];

interface Conversation {
  readonly exitCode: number | undefined;
  /** Without control sequences. */
  readonly shown: string;
  readonly questions: number;
}

/** Finds a text however it is broken into lines, which depends on the length of paths in it. */
function broken(text: string): RegExp {
  const words = text.split(' ').map((word) => word.replaceAll(/[^\w]/g, '\\$&'));
  return new RegExp(words.join('(?:\\s|\u001b\\[[?0-9;]*[A-Za-z])+'));
}

/** `tars init ARGS` on a terminal of 80 columns. */
async function converse(answers: readonly Answer[], args: readonly string[] = []): Promise<Conversation> {
  const words = [process.execPath, cliPath, 'init', ...args];
  const command = `stty cols 80 rows 24; exec ${words.map((word) => `'${word}'`).join(' ')}`;
  const child = execa('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    reject: false,
    cwd: directory,
    // A question that does not come is waited for no longer.
    timeout: 180_000,
    env: {
      ...environment,
      HOME: join(directory, 'home'),
      ...{ NO_COLOR: '1', TERM: 'xterm', SHELL: '/bin/sh', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
    },
    buffer: false,
  });
  let shown = '';
  let from = 0;
  const left = [...answers];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    for (let next = left[0]; next !== undefined; next = left[0]) {
      if (!broken(next[0]).test(shown.slice(from))) return;
      from = shown.length;
      child.stdin.write(next[1]);
      left.shift();
    }
  });
  const ended = once(child.stdout, 'end');
  const { exitCode } = await child;
  await ended;
  const plain = shown.replaceAll(/\u001b\[[?0-9;]*[A-Za-z]/g, '').replaceAll('\r', '');
  const asked = new Set(plain.split('\n').filter((line) => line.startsWith('◆')));
  return { exitCode, shown: plain, questions: asked.size };
}

const what: Answer = ['What do you want to back up?', '\r'];
const where: Answer = ['Where do you want', '\r'];
const when: Answer = ['At what time', '\r'];
const keep: Answer = ['Keep the last 3', '\r'];
const create: Answer = ['Create', '\r'];

interface Written {
  readonly repository: { readonly path: string; readonly password_file: string };
  readonly docker?: { readonly project: string };
  readonly components: Record<string, unknown>;
  readonly services?: Record<string, unknown>;
  readonly schedule?: Record<string, string>;
  readonly retention?: Record<string, unknown>;
}
const read = async (name: string): Promise<string> => readFile(join(directory, name), 'utf8');
const written = async (): Promise<Written> => parse(await read('tars.yaml')) as Written;

const proposedSchedule = { backup: '30 2 * * *', forget: '0 4 * * 0', check: '0 5 1 * *' };
const proposedRetention = {
  ...{ keep_last: 3, keep_daily: 7, keep_weekly: 4, keep_monthly: 12, after_backup: false },
};

test('Enter five times takes every proposal, of the Compose project that is found here', async () => {
  await writeProject();
  const { exitCode, shown, questions } = await converse([what, where, when, keep, create]);
  assert.equal(exitCode, 0, shown);
  assert.equal(questions, 5, shown);
  assert.match(shown, /The Compose project home: db \(postgres\)/);
  assert.match(shown, /paused for the cut: api/);
  const { repository, docker, components, services, schedule, retention } = await written();
  assert.equal(repository.path, join(directory, 'tars-repository'));
  assert.equal(docker?.project, 'home');
  assert.deepEqual(components['postgres'], { service: 'db' });
  assert.deepEqual(services, { api: { writer: true } });
  assert.deepEqual({ schedule, retention }, { schedule: proposedSchedule, retention: proposedRetention });
  const key = (await read('tars-recovery.key')).trim();
  assert.equal(shown.split(key).length, 2, 'the key is shown once');
  assert.equal((await stat(join(directory, 'tars-recovery.key'))).mode & 0o777, 0o600);
  // However its lines are broken for the width of the terminal.
  assert.match(
    shown.replaceAll(/\s+/g, ' '),
    /ok repository \S+tars-repository opens/,
    'doctor has the last word',
  );
  assert.match(shown, /tars backup\n.*tars schedule install/);
  assert.ok(!shown.includes('hush-hush') && !(await read('tars.yaml')).includes('hush-hush'));
});

test('answers are taken as they are given, and wrong ones asked again', async () => {
  await writeProject();
  await mkdir(join(directory, 'full'));
  await writeFile(join(directory, 'full', 'thesis.txt'), '');
  const local = '\u001b[B\r';
  const { exitCode, shown, questions } = await converse([
    [what[0], local],
    [where[0], 'full/thesis.txt/x\r'],
    ['This is a file', '\u007f'.repeat('/thesis.txt/x'.length)],
    ['full', '\r'],
    ['This directory is not empty', '\u007f'.repeat('full'.length) + '.\r'],
    ['would lie in', '\u007f~/snapshots\r'],
    [when[0], '25:00\r'],
    ['Enter a time such as', '\u007f'.repeat(5)],
    ['02:30', 'never\r'],
    [keep[0], 'n'],
    create,
  ]);
  assert.equal(exitCode, 0, shown);
  assert.equal(questions, 5, shown);
  const { repository, docker, schedule, retention } = await written();
  assert.equal(repository.path, join(directory, 'home', 'snapshots'), 'home, not a directory named ~');
  assert.deepEqual(
    { docker, schedule, retention },
    {
      ...{ docker: undefined, schedule: undefined, retention: undefined },
    },
  );
  assert.doesNotMatch(shown, /tars schedule install/);
});

test('where nothing can be created it ends, and leaves nothing', async () => {
  // A directory that is there and answers ENOENT to new entries: Node's own mkdir tries for ever.
  const args = [cliPath, 'init', '--yes', '--repository', '/proc/tars/repository'];
  const cut = { cwd: directory, env: environment, timeout: 120_000, killSignal: 'SIGKILL' } as const;
  const { exitCode, stderr } = await execa(process.execPath, args, { ...cut, reject: false });
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /\[ERROR\] Cannot create a repository in \/proc\/tars\/repository: ENOENT/);
  assert.deepEqual(await readdir(directory), []);
});

test('what flags say is not asked', async () => {
  await writeProject();
  const args = ['--compose', 'compose.yaml', '--repository=~/r', '--stack', 's'];
  const { exitCode, shown, questions } = await converse([[when[0], '4:05\r'], keep, create], args);
  assert.equal(exitCode, 0, shown);
  assert.equal(questions, 3, shown);
  const { schedule, repository } = await written();
  assert.equal(schedule?.['backup'], '5 4 * * *');
  assert.equal(repository.path, join(directory, 'home', 'r'), 'home, not a directory named ~');
});

test('Ctrl-C, Ctrl-D, and a no to the last question leave nothing', async () => {
  await writeProject();
  const before = await readdir(directory);
  const answers = [what, where, when, keep, create];
  const leaving: [number, string, number, RegExp][] = [
    [0, '\u0003', 130, /\[ERROR\] Interrupted; nothing was written/],
    [1, '\u0004', 130, /\[ERROR\] Interrupted; nothing was written/],
    [3, '\u0003', 130, /\[ERROR\] Interrupted; nothing was written/],
    [4, 'n', 1, /\[ERROR\] Nothing was written, because you answered no/],
  ];
  await Promise.all(
    leaving.map(async ([at, keys, expected, said]) => {
      const last: Answer = [answers[at]?.[0] ?? '', keys];
      const { exitCode, shown } = await converse([...answers.slice(0, at), last]);
      assert.equal(exitCode, expected, shown);
      assert.match(shown, said);
      assert.doesNotMatch(shown, /\n {4}at /);
    }),
  );
  assert.deepEqual(await readdir(directory), before);
});

test('--yes does the same without a terminal, and never over a tars.yaml that is there', async () => {
  await writeProject();
  const run = () => tars(['init', '--yes', '--json'], { cwd: directory, env: environment });
  const { exitCode, stdout, stderr } = await run();
  assert.equal(exitCode, 0, stderr);
  const { wroteSettings, diagnoses, inventory } = JSON.parse(stdout) as {
    readonly wroteSettings: boolean;
    readonly inventory: { readonly project: string; readonly stores: readonly object[] };
    readonly diagnoses: readonly Diagnosis[];
  };
  assert.ok(wroteSettings);
  assert.equal(inventory.project, 'home');
  const fields = ['service', 'kind', 'how', 'port', 'tls', 'password', 'passwordFile', 'warning'];
  assert.deepEqual(
    inventory.stores.flatMap((store) => Object.keys(store)).filter((name) => !fields.includes(name)),
    [],
  );
  // Without an Engine no store can be reached; that is said, and is no reason not to have written all this.
  const stores = diagnoses.filter(({ check }) => check === 'store postgres');
  assert.deepEqual(
    stores.map(({ state }) => state),
    ['error'],
  );
  const { schedule, retention } = await written();
  assert.deepEqual({ schedule, retention }, { schedule: proposedSchedule, retention: proposedRetention });
  const mine = `${await read('tars.yaml')}# mine\n`;
  await writeFile(join(directory, 'tars.yaml'), mine);
  await rm(join(directory, 'tars-repository'), { recursive: true });
  await rm(join(directory, 'tars-recovery.key'));
  const again = await run();
  assert.equal(again.exitCode, 0, again.stderr);
  assert.equal((JSON.parse(again.stdout) as { wroteSettings: boolean }).wroteSettings, false);
  assert.equal(await read('tars.yaml'), mine);
});

test('beside a tars.yaml that is there nothing is created without being asked either', async () => {
  const args = ['--repository', 'disk', '--yes'];
  const made = await tars(['init', ...args], { cwd: directory, env: environment });
  assert.equal(made.exitCode, 0, made.stderr);
  await rm(join(directory, 'disk'), { recursive: true });
  await mkdir(join(directory, 'disk'));
  const before = await allFiles();
  const no = await converse([['mounted?', 'n']]);
  assert.equal(no.exitCode, 1, no.shown);
  assert.match(no.shown, /Nothing was written, because you answered no/);
  assert.deepEqual(await allFiles(), before);
  const gone = await converse([['mounted?', '\u0003']]);
  assert.equal(gone.exitCode, 130, gone.shown);
  assert.deepEqual(await allFiles(), before);

  await rm(join(directory, 'tars-recovery.key'));
  const yes = await converse([create]);
  assert.equal(yes.exitCode, 0, yes.shown);
  assert.equal(yes.questions, 1, yes.shown);
  assert.match(
    yes.shown.replaceAll(/[\s│]+/g, ''),
    /Createtherepository\S+\/diskanditskey\S+tars-recovery\.key\?/,
  );
  const third = await converse([]);
  assert.equal(third.questions, 0, 'a repository that is there leaves nothing to ask');
});

/** A repository and its key without `tars.yaml`, as on a new machine. */
async function repositoryAlone(): Promise<{ readonly key: string; readonly files: readonly string[] }> {
  const made = await tars(['init', '--repository', 'snapshots'], { cwd: directory, env: environment });
  assert.equal(made.exitCode, 0, made.stderr);
  await rm(join(directory, 'tars.yaml'));
  return { key: (await read('tars-recovery.key')).trim(), files: await allFiles() };
}

const allFiles = async (): Promise<readonly string[]> =>
  (await readdir(directory, { recursive: true })).toSorted();

test('on a new machine tars.yaml is written for the repository that the key file opens; both are kept', async () => {
  const { key, files } = await repositoryAlone();
  const again = ['init', '--repository', 'snapshots', '--json', '--key-file'];
  const run = (...args: string[]) => tars([...again, ...args], { cwd: directory, env: environment });
  const refused = async (args: string[], code: number, said: RegExp): Promise<void> => {
    const { exitCode, stdout, stderr } = await run(...args);
    assert.equal(exitCode, code, stderr);
    assert.match(stderr, said);
    assert.equal(stdout, '');
  };
  await refused(['elsewhere.key'], 1, /repository-exists.*no key at .*elsewhere\.key.*--key-file/);
  assert.deepEqual(await allFiles(), files);
  await writeFile(join(directory, 'other.key'), 'of another repository\n');
  await refused(['other.key'], 12, /wrong-password/);
  await rm(join(directory, 'other.key'));
  assert.deepEqual(await allFiles(), files);

  const { exitCode, stdout, stderr } = await run('tars-recovery.key');
  assert.equal(exitCode, 0, stderr);
  const { wroteSettings, tookRepository } = JSON.parse(stdout) as Record<string, boolean>;
  assert.deepEqual({ wroteSettings, tookRepository }, { wroteSettings: true, tookRepository: true });
  assert.deepEqual(await allFiles(), [...files, 'tars.yaml'].toSorted());
  assert.equal((await read('tars-recovery.key')).trim(), key);
  const listed = await tars(['snapshots', '--json'], { cwd: directory, env: environment });
  assert.deepEqual([listed.exitCode, listed.stdout], [0, '[]']);
});

test('the conversation takes a repository that is there, and says so', async () => {
  await writeProject();
  const { key, files } = await repositoryAlone();
  const { exitCode, shown } = await converse([
    what,
    [where[0], 'snapshots\r'],
    when,
    keep,
    // One word: between two the terminal may break the line.
    ['existing', '\r'],
  ]);
  assert.equal(exitCode, 0, shown);
  assert.match(shown, /^Kept the repository \S+snapshots/m);
  assert.ok(!shown.includes(key));
  assert.deepEqual(await allFiles(), [...files, 'tars.yaml'].toSorted());
});
