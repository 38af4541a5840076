// Runs the tests with their full counts (test/fixtures/campaign.ts), one file after the other. Arguments: words that
// select parts by their names; --list prints the parts and the minutes that each took when it was last recorded;
// --record keeps the minutes of this run in test/campaign-minutes.json.
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';

/** Milliseconds; no file takes as long. */
const timeoutMs = 7_200_000;
const minutesFile = new URL('../test/campaign-minutes.json', import.meta.url);

const lighter = `--import=${new URL('lighter-tests.ts', import.meta.url).href}`;

/** Files that run together in one part. */
interface Part {
  readonly name: string;
  readonly files: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

const { values, positionals: words } = parseArgs({
  options: { list: { type: 'boolean' }, record: { type: 'boolean' } },
  allowPositionals: true,
});
const parts = allParts().filter(
  ({ name }) => words.length === 0 || words.some((word) => name.includes(word)),
);
const minutesOf = new Map(
  Object.entries(JSON.parse(readFileSync(minutesFile, 'utf8')) as Readonly<Record<string, number>>),
);
if (parts.length === 0) {
  process.stderr.write(`[ERROR] No part of the campaign is called ${words.join(' or ')}\n`);
  process.exitCode = 1;
}
print(forecast());
if (values.list !== true) for (const part of parts) run(part);

/** The files that change with the campaign, then those of PostgreSQL on each newer server. */
function allParts(): readonly Part[] {
  const all = globSync('test/**/*.test.ts').sort();
  const has = (file: string, pattern: RegExp): boolean => pattern.test(readFileSync(file, 'utf8'));
  const counting = all.filter((file) => has(file, /counted\(|isCampaign|TARS_CAMPAIGN/));
  const files = all.filter((file) => basename(file).startsWith('postgres-') && has(file, /startBench\(\)/));
  return [
    ...counting.map((file): Part => ({ name: nameOf(file), files: [file], environment: {} })),
    ...['17', '18'].map((major): Part => ({
      ...{ name: `on-postgres-${major}`, files, environment: { TARS_TEST_POSTGRES: major } },
    })),
  ];
}

function nameOf(file: string): string {
  return basename(file, '.test.ts');
}

function run({ name, files, environment }: Part): void {
  const startMs = performance.now();
  const runner = ['--test', '--test-concurrency=1', '--test-force-exit', `--test-timeout=${timeoutMs}`];
  const options = [lighter, ...runner];
  const { status } = spawnSync('node', [...options, ...files], {
    stdio: 'inherit',
    env: { ...process.env, ...environment, TARS_CAMPAIGN: 'full' },
  });
  const minutes = Math.round((performance.now() - startMs) / 6000) / 10;
  print(`${status === 0 ? 'PASSED' : 'FAILED'} ${name} in ${minutes} min`);
  if (status !== 0) process.exitCode = 1;
  else if (values.record === true) record(name, minutes);
}

function record(name: string, minutes: number): void {
  minutesOf.set(name, minutes);
  const sorted = Object.fromEntries([...minutesOf].sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(minutesFile, `${JSON.stringify(sorted, null, 2)}\n`);
}

function forecast(): string {
  const lines = parts.map(({ name }) => {
    const minutes = minutesOf.get(name);
    return (minutes === undefined ? 'not recorded' : `${minutes} min`).padStart(14) + `  ${name}`;
  });
  const known = parts.flatMap(({ name }) => minutesOf.get(name) ?? []);
  const sum = Math.round(known.reduce((total, minutes) => total + minutes, 0));
  const unknown = parts.length - known.length;
  const rest = unknown === 0 ? '' : `, and ${unknown} that nobody has recorded yet`;
  return [...lines, `${parts.length} parts: about ${sum} min on two processors${rest}`].join('\n');
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
