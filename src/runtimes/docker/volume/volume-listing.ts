import { TarsError } from '../../../model/errors.ts';
import type { VolumeEntry, VolumeListing } from '../../../ports/volume.ts';

/** The kinds of `st_mode` (inode(7)). */
const fileTypes: Readonly<Record<number, VolumeEntry['type']>> = {
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'symlink',
};

const linePattern =
  /^([0-9a-f]+) (\d+) (\d+) (\d+) (\d+) (\d+-\d+-\d+ [\d:.]+(?: [+-]\d{4})?) (\d+-\d+-\d+ [\d:.]+(?: [+-]\d{4})?) \.(?:\/(.*))?$/;

/** What `listScript` of volume-scripts.ts prints. @throws TarsError for a name that is no line */
export function parseListing(text: string): VolumeListing | undefined {
  const entries = new Map<string, VolumeEntry>();
  let root: VolumeEntry | undefined;
  let takenAtNs: bigint | undefined;
  for (const line of text.split('\n').filter((row) => row !== '')) {
    const now = /^now (\d+)$/.exec(line)?.[1];
    if (now !== undefined) {
      takenAtNs = BigInt(now) * 1_000_000_000n;
      continue;
    }
    const match = linePattern.exec(line);
    if (match === null) throw new TarsError('capture-failed', `An entry has an impossible name: ${line}`);
    const entry = entryOf(match);
    if (entry.path === '') root = entry;
    else entries.set(entry.path, entry);
  }
  if (root === undefined || takenAtNs === undefined) return undefined;
  const fine = [root, ...entries.values()].some(({ identity }) => identity.mtimeNs % 1_000_000_000n !== 0n);
  return { root, entries, takenAtNs, fineTimes: fine };
}

function entryOf(match: RegExpExecArray): VolumeEntry {
  const [, rawMode = '', uid, gid, size, inode = '0', mtime = '', ctime = '', path = ''] = match;
  const mode = Number.parseInt(rawMode, 16);
  const mtimeNs = timeNs(mtime);
  return {
    path,
    type: fileTypes[mode & 0o170000] ?? 'other',
    attributes: { mode: mode & 0o7777, uid: Number(uid), gid: Number(gid), mtimeNs },
    identity: { sizeBytes: Number(size), mtimeNs, ctimeNs: timeNs(ctime), inode: BigInt(inode) },
  };
}

/** `2026-11-24 16:03:34.911946946 +0000`; BusyBox leaves fraction or zone out. */
function timeNs(text: string): bigint {
  const [, date = '', time = '', fraction = '', zone = '+0000'] =
    /^(\S+) ([\d:]+)(?:\.(\d+))?(?: (\S+))?$/.exec(text) ?? [];
  const ms = Date.parse(`${date}T${time}${zone.slice(0, 3)}:${zone.slice(3)}`);
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
}

const hashPattern = /^(\\?)([0-9a-f]{64}) [ *]\.\/(.*)$/;

/** What `hashScript` of volume-scripts.ts prints: hashes by path; undefined where there is no `sha256sum`. */
export function parseHashes(text: string): ReadonlyMap<string, string> | undefined {
  const [first, ...lines] = text.split('\n').filter((row) => row !== '');
  if (first === undefined) return undefined;
  return new Map(
    lines.map((line) => {
      const [, escaped, hash, name] = hashPattern.exec(line) ?? [];
      if (hash === undefined || name === undefined)
        throw new TarsError('subprocess', `sha256sum printed something other than hashes: ${line}`);
      const path =
        escaped === '' ? name : name.replaceAll(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : String(c)));
      return [path, hash] as const;
    }),
  );
}
