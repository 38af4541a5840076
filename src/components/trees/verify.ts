import { lstat, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf } from '../files/file-bytes.ts';
import { isKeptOut } from './capture.ts';
import { parseTreesFacts, treeFolder, type CapturedEntry } from './facts.ts';
import type { TreesPlace } from './plan.ts';
import { problemOf } from './stage.ts';

/**
 * Compares the live trees with the capture. A tree that is gone is an error, and so is a file whose content is another
 * though its time is the captured one: nobody wrote that. What was written or removed since is a warning: these are
 * directories in use.
 */
export async function verifyTrees(
  place: TreesPlace,
  from: ComponentManifest,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const hashes = new Map(from.artifacts.map(({ path, sha256 }) => [path, sha256]));
  const findings: Finding[] = [];
  const report = (severity: Finding['severity'], code: string, message: string): void =>
    void findings.push({ severity, subject: from.name, code, message });
  for (const { path, entries } of parseTreesFacts(from.facts, from.name).trees) {
    const own = place.trees.find((tree) => tree.path === path);
    if (own === undefined) continue;
    const { live } = own;
    if ((await lstat(live).catch(() => undefined)) === undefined) {
      report('error', 'directory-missing', `${live} is missing`);
      continue;
    }
    const folder = treeFolder(from.name, path);
    for (const entry of entries.filter((each) => !isKeptOut(own, each.path))) {
      ctx.signal.throwIfAborted();
      const finding = await compare(
        join(live, entry.path),
        entry,
        hashes.get(`${folder}/${entry.path}`),
        ctx,
      );
      if (finding !== undefined) report(...finding);
    }
  }
  return findings;
}

type Difference = readonly [Finding['severity'], string, string];

async function compare(
  path: string,
  entry: CapturedEntry,
  sha256: string | undefined,
  ctx: OperationContext,
): Promise<Difference | undefined> {
  const stats = await lstat(path, { bigint: true }).catch(() => undefined);
  if (stats === undefined) return ['warning', 'file-missing', `${path} is missing`];
  const type = stats.isFile()
    ? 'file'
    : stats.isDirectory()
      ? 'directory'
      : stats.isSymbolicLink()
        ? 'symlink'
        : '';
  if (type !== entry.type) return ['warning', 'file-differs', `${path} is no ${entry.type} any more`];
  if (type === 'symlink' && (await readlink(path)) !== entry.target)
    return ['warning', 'file-differs', `${path} leads elsewhere than in the snapshot`];
  const attributes = attributesOf(stats);
  if (type === 'file') {
    const problem = await problemOf(path, sha256 ?? '', ctx.signal);
    // Times are restored to the microsecond.
    const sinceUs = attributes.mtimeNs / 1000n - BigInt(entry.mtimeNs) / 1000n;
    if (problem !== undefined) {
      const untouched = sinceUs >= -1n && sinceUs <= 1n;
      return untouched
        ? ['error', 'file-damaged', `${path} ${problem}, and has the time it had then`]
        : ['warning', 'file-differs', `${path} was changed since`];
    }
  }
  if (type === 'symlink' || attributes.mode === entry.mode) return undefined;
  const [now, then] = [attributes.mode.toString(8), entry.mode.toString(8)];
  return ['warning', 'mode-differs', `${path} has mode ${now} instead of ${then}`];
}
