/**
 * What copies of a live Chroma directory are worth under constant writes: a plain `tar`, and the safe copy of
 * `tars`. Run: `node bench/chroma-tar.ts [copies]`. Every copy is read in full without a server; it is broken when
 * a record has no vector, an index is torn or SQLite cannot read it.
 */
import { execa } from 'execa';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inspectDirectory } from '../src/components/chroma/direct/inspect.ts';
import { placedCollections } from '../src/components/chroma/facts.ts';
import { inspectedCopy } from '../src/components/chroma/physical/capture.ts';
import { SafeCopy } from '../src/components/chroma/physical/safe-copy.ts';
import { loadedChroma, type LoadedChroma } from '../test/fixtures/chroma-directory.ts';
import { testContext } from '../test/fixtures/context.ts';

const copies = Number(process.argv[2] ?? 10);
const seed = 2024;
const ctx = testContext();

interface Outcome {
  readonly broken: boolean;
  readonly lostVectors: number;
  readonly blockedMs: number;
  readonly takenAgain: boolean;
  readonly reason: string;
}

async function tarred(chroma: LoadedChroma): Promise<Outcome> {
  const archive = join(chroma.root, 'live.tar');
  const copy = join(chroma.root, 'untarred');
  await rm(copy, { recursive: true, force: true });
  await mkdir(copy);
  // tar ends with 1 when a file changed while it was read, and has written the archive all the same.
  await execa('tar', ['-C', chroma.server.dataDir, '-cf', archive, '.'], { reject: false });
  await execa('tar', ['-C', copy, '-xf', archive]);
  try {
    const { problems, tenants } = await inspectDirectory(copy, 'chroma', ctx.signal);
    const errors = problems.filter(({ severity }) => severity === 'error');
    const lost = [...placedCollections({ tenants })].map(
      ({ collection }) => collection.recordCount - collection.vectorCount,
    );
    return {
      broken: errors.length > 0,
      lostVectors: lost.reduce((a, b) => a + b, 0),
      blockedMs: 0,
      takenAgain: false,
      reason: errors[0]?.code ?? '',
    };
  } catch {
    return { broken: true, lostVectors: Number.NaN, blockedMs: 0, takenAgain: false, reason: 'unreadable' };
  }
}

async function safelyCopied(chroma: LoadedChroma): Promise<Outcome> {
  await using copy = await SafeCopy.prepare(chroma.server.dataDir, join(chroma.root, 'scratch'), ctx);
  await copy.lock(3000, ctx);
  const lostVectors = 0;
  try {
    const { first } = await inspectedCopy(copy, 'chroma', ctx);
    return { broken: false, lostVectors, blockedMs: copy.writesBlockedMs, takenAgain: !first, reason: '' };
  } catch {
    // It refuses by itself what is broken.
    return {
      broken: true,
      lostVectors,
      blockedMs: copy.writesBlockedMs,
      takenAgain: true,
      reason: 'refused',
    };
  }
}

const methods = { 'tar of the live directory': tarred, 'tars, safe copy': safelyCopied };

await using chroma = await loadedChroma(4000, seed, 384);
chroma.load.start();
const rows: Record<string, Record<string, string | number>> = {};
for (const [name, method] of Object.entries(methods)) {
  const outcomes: Outcome[] = [];
  const operationsBefore = chroma.load.operations;
  for (let i = 0; i < copies; i++) outcomes.push(await method(chroma));
  const broken = outcomes.filter((outcome) => outcome.broken);
  const blocked = outcomes.map(({ blockedMs }) => blockedMs).sort((a, b) => a - b);
  rows[name] = {
    broken: `${broken.length} of ${copies}`,
    'taken again': outcomes.filter(({ takenAgain }) => takenAgain).length,
    'vectors lost, at most': Math.max(0, ...broken.map(({ lostVectors }) => lostVectors || 0)),
    'writes blocked, median ms': Math.round(blocked[Math.floor(copies / 2)] ?? 0),
    'operations meanwhile': chroma.load.operations - operationsBefore,
    reasons: [...new Set(broken.map(({ reason }) => reason))].join(', '),
  };
}
await chroma.load.stop();
console.table(rows);
