/**
 * Node's warnings as ours. node:sqlite still announces itself as experimental, which the operator cannot act on; as it
 * does so when it is loaded, this comes before.
 */
export function forwardWarnings(): void {
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (warning.name === 'ExperimentalWarning' && warning.message.includes('SQLite')) return;
    process.stderr.write(`[WARN] ${warning.name}: ${warning.message}\n`);
  });
}
