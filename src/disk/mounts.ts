import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { decodeLossless } from '../model/byte-text.ts';
import { TarsError } from '../model/errors.ts';
import { whenMissing } from './is-there.ts';
import { throughLinks } from './real-path.ts';

/** Where the system says what is mounted, and what is to be. */
interface MountTables {
  readonly mountinfo: string;
  readonly fstab: string;
}

const ofTheSystem: MountTables = { mountinfo: '/proc/self/mountinfo', fstab: '/etc/fstab' };

/** What is mounted now, as proc_pid_mountinfo(5) has it; nothing where there is no such table. */
export const mountPoints = ({ mountinfo } = ofTheSystem): Promise<readonly string[]> => column(mountinfo, 4);

/** A path as both tables write it: blanks and backslashes as octal numbers; read as latin1, told as model/byte-text.ts has it. */
export const decodeMountPath = (text: string): string =>
  decodeLossless(
    Buffer.from(
      text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))),
      'latin1',
    ),
  );

/** Where something is mounted below `directory`, relative to it; paths as model/byte-text.ts has them. */
export async function mountsBelow(directory: string, tables = ofTheSystem): Promise<ReadonlySet<string>> {
  const above = directory === '/' ? '/' : `${directory}/`;
  const points = await mountPoints(tables);
  return new Set(points.filter((point) => point.startsWith(above)).map((point) => point.slice(above.length)));
}

/** The column of a table, counted from 0. */
async function column(table: string, index: number): Promise<readonly string[]> {
  return (await textOf(table))
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.split(/\s+/)[index] ?? '')
    .map(decodeMountPath)
    .filter((path) => path.startsWith('/'));
}

/** One character for each byte; empty where there is no such table. */
async function textOf(table: string): Promise<string> {
  return readFile(table, 'latin1').catch(whenMissing('', `Cannot read ${table}`));
}

/**
 * Refuses a directory, there or not, whose disk is not mounted though fstab(5) names it: what is written there fills
 * another disk, and is hidden once the right one is mounted.
 * @throws TarsError `storage-failed`
 */
export async function requireMounted(directory: string, tables = ofTheSystem): Promise<void> {
  const path = await throughLinks(directory);
  const wanted = nearestAbove(path, await column(tables.fstab, 1));
  const mounted = nearestAbove(path, await mountPoints(tables));
  if (wanted === undefined || mounted === undefined || wanted.length <= mounted.length) return;
  throw new TarsError(
    'storage-failed',
    `The disk of ${directory} is not mounted: /etc/fstab mounts it at ${wanted}`,
    {
      hint: `Mount it: mount ${wanted}, or choose another directory.`,
      context: { path: directory },
    },
  );
}

function nearestAbove(path: string, points: readonly string[]): string | undefined {
  return points
    .map((point) => resolve(point))
    .filter((point) => point === '/' || path === point || path.startsWith(`${point}/`))
    .sort((a, b) => a.length - b.length)
    .at(-1);
}
