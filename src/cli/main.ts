#!/usr/bin/env node
import { createProgram } from './program.ts';

// node:sqlite still announces itself as experimental; the operator cannot act on that.
process.removeAllListeners('warning');
process.on('warning', (warning) => {
  if (warning.name === 'ExperimentalWarning' && warning.message.includes('SQLite')) return;
  process.stderr.write(`[WARN] ${warning.name}: ${warning.message}\n`);
});

const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The first signal stops cleanly (writers resume, locks go); the second is the operator's last word.
  process.on(signal, () => {
    if (interruption.signal.aborted) process.exit(130);
    interruption.abort();
  });
}

let exitCode = 0;
await createProgram({
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  signal: interruption.signal,
  setExitCode: (code) => {
    exitCode = code;
  },
}).parseAsync(process.argv);
process.exitCode = exitCode;
