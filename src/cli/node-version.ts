/** As `engines` in package.json says: AsyncDisposableStack, the time-out of node:sqlite, zstd in node:zlib. */
const oldestMajor = 24;

/** Why this version of Node will not do; undefined when it does. Imports nothing, so that every Node can load it. */
export function refusalOfNode(version: string): string | undefined {
  const [major = 0] = version.split('.').map(Number);
  if (major >= oldestMajor) return undefined;
  return `tars needs Node ${oldestMajor} or newer, and this is Node ${version}. Install a newer one, or put it first in PATH`;
}
