import type { Finding } from '../../../model/finding.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { compareFacts, problemsAgainst, type ChromaFacts } from '../facts.ts';
import { inspectedCopy } from './capture.ts';
import type { PhysicalPlace } from './plan.ts';
import { SafeCopy } from './safe-copy.ts';

const lockTimeoutMs = 5000;

/** Compares what a copy of the persist directory holds with a capture's facts. */
export async function verifyDirectory(
  { name, path }: PhysicalPlace,
  scratchDir: string,
  facts: ChromaFacts,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  await using copy = await SafeCopy.prepare(path, scratchDir, ctx);
  await copy.lock(lockTimeoutMs, ctx);
  const { inspection } = await inspectedCopy(copy, name, ctx);
  return [
    ...problemsAgainst(name, facts, inspection.problems),
    ...compareFacts(name, facts, inspection, 'tolerant'),
  ];
}
