/**
 * Node's warnings are for whoever writes a program: that a module is experimental, that a call goes away one day. An
 * operator cannot act on them, so only `--verbose` shows them. As node:sqlite announces itself when it is loaded, this
 * comes before.
 */
export function keepWarnings(verbose: boolean): void {
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => {
    if (verbose) process.stderr.write(`[WARN] ${name}: ${message}\n`);
  });
}
