/**
 * `tars` beside what else people use, in one run on the same data: dumps + restic, dumps + tar | gzip. Run:
 * `npm run bench -- --size 4g --rounds 3`. What it measures and how to read it is in README.md.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startDemoStack } from '../src/demo/stack.ts';
import { testContext } from '../test/fixtures/context.ts';
import { Dumps } from './dumps.ts';
import { parseOptions, usage, type BenchOptions } from './options.ts';
import { DumpsAndRestic, resticVersion } from './restic.ts';
import { runRounds } from './rounds.ts';
import { renderTable, summarize } from './table.ts';
import { DumpsAndTar } from './tar-gzip.ts';
import { compileTars, Tars } from './tars.ts';
import { Workload } from './workload.ts';

const say = (line: string): void => console.error(line);

async function bench(
  { sizeBytes, rounds, json }: BenchOptions,
  root: string,
  signal: AbortSignal,
): Promise<void> {
  const restic = await resticVersion();
  say('Compiling tars');
  const program = await compileTars(join(root, 'package'));
  say('Starting PostgreSQL, Redis and Chroma, and loading them');
  await using stack = await startDemoStack(root, testContext(signal));
  const workload = await Workload.load(stack, sizeBytes);
  const dumps = new Dumps(stack, signal);
  const contestants = [
    new Tars(program, stack, signal),
    new DumpsAndRestic(dumps, signal),
    new DumpsAndTar(dumps, signal),
  ];
  const samples = await runRounds(contestants, workload, rounds, say);
  const rows = summarize(
    samples,
    contestants.map(({ name }) => name),
  );
  const machine = `${availableParallelism()} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}, ${restic}`;
  if (json) {
    console.log(
      JSON.stringify({ machine, sizeBytes, rounds, content: workload.content, rows, samples }, null, 2),
    );
    return;
  }
  const { rows: tableRows, keys, records } = workload.content;
  console.log(
    `${machine}\n${sizeBytes / 1e9} GB: ${tableRows} rows, ${keys} keys, ${records} records; ${rounds} round(s)\n`,
  );
  console.log(renderTable(rows));
}

const options = parseOptions(process.argv.slice(2));
if (options === undefined) console.log(usage);
else {
  const interrupted = new AbortController();
  for (const ending of ['SIGINT', 'SIGTERM']) process.once(ending, () => interrupted.abort());
  const root = await mkdtemp(join(tmpdir(), 'tars-bench-'));
  try {
    await bench(options, root, interrupted.signal);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
