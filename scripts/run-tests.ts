// Runs test files, two at a time, and beside them three of those that wait for a Docker Engine half of their time. A place
// goes to the other kind when there are no more of its own. Arguments: files; --grep PATTERN runs the tests of such names only.
// Ends with the slowest files.
import { globSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { parseArgs } from 'node:util';

/** A test takes a minute or two; what takes this long hangs. */
const timeoutMs = 900_000;
const [filesAtATime, dockerFilesAtATime] = [2, 3];
const slowestShown = 10;
/** In megabytes. With Node's own sizes, collecting garbage takes over a quarter of the tests' processor time. */
const heap = ['--max-semi-space-size=32', '--initial-heap-size=512'];
const lighter = `--import=${new URL('lighter-tests.ts', import.meta.url).href}`;

/** What takes longest begins first: at the end it would keep one processor busy while the other has nothing to do. */
const longest = [
  ...['runbook', 'docker-restore', 'docker-kill', 'docker-own-server', 'first-snapshot', 'docker-reference'],
  ...['docker-backup', 'docker-init', 'docker-layouts', 'docker-corners', 'docker-roles'],
  ...[
    'docker-volume',
    'docker-engine-restart',
    'docker-trouble',
    'restore-failures',
    'memory',
    'restore-crash',
  ],
  ...[
    'stranger',
    'releases',
    'backup-crash',
    'kill-backup',
    'stack-round-trip',
    'postgres-schema',
    'tree-hostile',
  ],
  ...['init-conversation', 'places', 'chroma-http-round-trip', 'kill-prune', 'resume'],
].map((name) => `/${name}.test.ts`);

const placeOf = (file: string): number => {
  const place = longest.findIndex((name) => file.endsWith(name));
  return place === -1 ? longest.length : place;
};

const { values, positionals } = parseArgs({ options: { grep: { type: 'string' } }, allowPositionals: true });
const all = positionals.length > 0 ? positionals : globSync(['src/**/*.test.ts', 'test/**/*.test.ts']).sort();
const files = all.toSorted((a, b) => placeOf(a) - placeOf(b));
const waits = (file: string): boolean => readFileSync(file, 'utf8').includes('fixtures/docker/');

/** What is read here of the events of node:test. */
interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly file?: string;
    readonly duration_ms: number;
    readonly counts: Readonly<Record<string, number>>;
  };
}

const totals = new Map<string, number>();
const secondsOf = new Map<string, number>();

function addTotals(counts: TestEvent['data']['counts']): void {
  for (const [what, count] of Object.entries(counts)) totals.set(what, (totals.get(what) ?? 0) + count);
}

/** Runs a file, and passes on what it reports but for the totals. */
async function runFile(file: string, output: PassThrough): Promise<void> {
  const events = run({
    ...{ files: [file], timeout: timeoutMs, execArgv: ['--test-force-exit', ...heap, lighter] },
    ...(values.grep === undefined ? {} : { testNamePatterns: values.grep }),
  });
  for await (const event of events as AsyncIterable<TestEvent>) {
    const { type, data } = event;
    if (type === 'test:fail') process.exitCode = 1;
    if (type === 'test:diagnostic' && data.file === undefined) continue;
    if (type !== 'test:summary') output.write(event);
    else if (data.file !== undefined) secondsOf.set(data.file, data.duration_ms / 1000);
    else addTotals(data.counts);
  }
}

/** Runs file after file until `next` has none. */
async function runLane(next: () => string | undefined, output: PassThrough): Promise<void> {
  for (let file = next(); file !== undefined; file = next()) await runFile(file, output);
}

const output = new PassThrough({ objectMode: true });
const printed = output.compose(spec);
printed.pipe(process.stdout);
const waiting = files.filter((file) => waits(file));
const busy = files.filter((file) => !waits(file));
await Promise.all([
  ...Array.from({ length: filesAtATime }, () => runLane(() => busy.shift() ?? waiting.shift(), output)),
  ...Array.from({ length: dockerFilesAtATime }, () => runLane(() => waiting.shift() ?? busy.shift(), output)),
]);
const ended = new Promise((resolve) => printed.once('end', resolve));
output.end();
await ended;

const counts = [...totals].filter(([, count]) => count > 0).map(([what, count]) => `${what} ${count}`);
process.stdout.write(`\n${counts.join(', ')}\nThe slowest files, in seconds:\n`);
const slowest = [...secondsOf].sort(([, a], [, b]) => b - a).slice(0, slowestShown);
for (const [file, seconds] of slowest) {
  process.stdout.write(`${seconds.toFixed(1).padStart(8)}  ${relative(process.cwd(), file)}\n`);
}
