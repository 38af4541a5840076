/** As `engines` in package.json says: node:sqlite without a flag, zstd in node:zlib. */
const oldest = { major: 22, minor: 15 };

/** Why this version of Node will not do; undefined when it does. Imports nothing, so that every Node can load it. */
export function refusalOfNode(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > oldest.major || (major === oldest.major && minor >= oldest.minor)) return undefined;
  return `tars needs Node ${oldest.major}.${oldest.minor} or newer, and this is Node ${version}. Install a newer one, or put it first in PATH`;
}

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
