#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { keepWarnings, refusalOfNode } from './node.ts';

const wants = (...flags: string[]): boolean => flags.some((flag) => process.argv.includes(flag));

const refusal = refusalOfNode(process.versions.node);
if (refusal === undefined) {
  // Young garbage would take tens of megabytes more before it is collected: bytes stream through here.
  setFlagsFromString('--semi-space-growth-factor=1');
  keepWarnings(wants('--verbose', '-v') && !wants('--json'));
  // Only now: what an older Node cannot even load would end in a stack trace.
  const { runCommandLine } = await import('./run.ts');
  await runCommandLine();
} else {
  process.stderr.write(`[ERROR] ${refusal}\n`);
  process.exitCode = 1;
}
