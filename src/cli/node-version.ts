/** As `engines` in package.json says: node:sqlite without a flag, zstd in node:zlib. */
const oldest = { major: 22, minor: 15 };

/** Why this version of Node will not do; undefined when it does. Imports nothing, so that every Node can load it. */
export function refusalOfNode(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > oldest.major || (major === oldest.major && minor >= oldest.minor)) return undefined;
  return `tars needs Node ${oldest.major}.${oldest.minor} or newer, and this is Node ${version}. Install a newer one, or put it first in PATH`;
}
