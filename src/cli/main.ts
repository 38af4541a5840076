#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { refusalOfNode } from './node-version.ts';
import { forwardWarnings } from './warnings.ts';

const refusal = refusalOfNode(process.versions.node);
if (refusal === undefined) {
  // Young garbage would take tens of megabytes more before it is collected: bytes stream through here.
  setFlagsFromString('--semi-space-growth-factor=1');
  forwardWarnings();
  // Only now: what an older Node cannot even load would end in a stack trace.
  const { runCommandLine } = await import('./run.ts');
  await runCommandLine();
} else {
  process.stderr.write(`[ERROR] ${refusal}\n`);
  process.exitCode = 1;
}
