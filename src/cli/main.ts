#!/usr/bin/env node
import { refusalOfNode } from './node-version.ts';

const refusal = refusalOfNode(process.versions.node);
if (refusal === undefined) {
  // Only now: what an older Node cannot even load would end in a stack trace.
  const { runCommandLine } = await import('./run.ts');
  await runCommandLine();
} else {
  process.stderr.write(`[ERROR] ${refusal}\n`);
  process.exitCode = 1;
}
