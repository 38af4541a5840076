import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../model/abort.ts';
import type { OpenDirectory } from '../../disk/open-directory.ts';
import { isThere } from '../../disk/is-there.ts';
import { openPath, type OpenedPath } from '../../disk/open-path.ts';
import { hasErrno, messageOf } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactAttributes, ArtifactEntry, ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { lstatAlong } from './tree/along.ts';
import { attributesAt } from './tree/attributes.ts';
import { FileBody } from './tree/file-body.ts';
import { parseTreesFacts, type CapturedDatabase } from './facts.ts';
import { compareDatabases } from './live-databases.ts';
import { partOf } from './sqlite/header.ts';
import { ArtifactHashes } from './tree/hashes.ts';
import { joinTree, type JoinedEntry, type LiveEntry } from './tree/joined.ts';
import { folderOf, restoredTrees, scopeOf, type RestoredTree, type TreesPlace } from './restoring.ts';
import type { TreeScope } from './tree/scope.ts';

/** How many differences of one kind are reported one by one. */
const reportedMax = 100;
/** After this many entries, other work gets its turn. */
const entriesPerTurn = 64;

/**
 * Compares the live trees with the capture: content, type, owner, mode, times, extended attributes, links, and what has
 * appeared. A tree that is gone is an error, and so is a file whose content is another though its time is the captured
 * one: nobody wrote that. Everything else is a warning: these are directories in use.
 */
export async function verifyTrees(
  place: TreesPlace,
  from: ComponentManifest,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<readonly Finding[]> {
  const differences = new Differences(from.name);
  await using hashes = new ArtifactHashes(from, source, ctx.signal);
  const trees = restoredTrees(place, from);
  for (const { path } of parseTreesFacts(from.facts, from.name).trees) {
    if (trees.some(({ tree }) => tree.path === path)) continue;
    const severity = trees.length === 0 ? 'error' : 'warning';
    const what = `is in the snapshot and was not compared: ${place.name} in tars.yaml does not name it`;
    differences.report(severity, 'directory-not-configured', path, what);
  }
  for (const restored of trees) {
    const { live: path } = restored.tree;
    if (!(await isThere(path))) {
      differences.report('error', 'directory-missing', path, 'is missing');
      continue;
    }
    using live = await openPath(path);
    await new TreeComparison(restored, hashes, differences, ctx).run(place, live, source);
  }
  return differences.findings;
}

/** Findings of which there may be many. */
class Differences {
  readonly #subject: string;
  readonly #counts = new Map<string, number>();
  readonly #findings: Finding[] = [];

  constructor(subject: string) {
    this.#subject = subject;
  }

  report(severity: Finding['severity'], code: string, path: string, what: string): void {
    const count = (this.#counts.get(code) ?? 0) + 1;
    this.#counts.set(code, count);
    if (count <= reportedMax)
      this.#findings.push({ severity, subject: this.#subject, code, message: `${path} ${what}` });
  }

  get findings(): readonly Finding[] {
    const more = [...this.#counts].filter(([, count]) => count > reportedMax);
    const rest = more.map(([code, count]): Finding => {
      const { severity } = this.#findings.find((finding) => finding.code === code) ?? { severity: 'warning' };
      const message = `${count - reportedMax} more like this (${code})`;
      return { severity, subject: this.#subject, code, message };
    });
    return [...this.#findings, ...rest];
  }
}

class TreeComparison {
  readonly #restored: RestoredTree;
  readonly #hashes: ArtifactHashes;
  readonly #differences: Differences;
  readonly #ctx: OperationContext;
  /** The inode of each file with several names, and the other way round. */
  readonly #groups = new Map<string, string>();
  readonly #databases: ReadonlyMap<string, CapturedDatabase>;
  readonly #changedDatabases = new Set<string>();

  constructor(
    restored: RestoredTree,
    hashes: ArtifactHashes,
    differences: Differences,
    ctx: OperationContext,
  ) {
    this.#restored = restored;
    const { databases = [] } = restored.captured;
    this.#databases = new Map(databases.map((database) => [database.path, database]));
    this.#hashes = hashes;
    this.#differences = differences;
    this.#ctx = ctx;
  }

  async run(place: TreesPlace, live: OpenedPath, source: ArtifactSource): Promise<void> {
    const scope = await scopeOf(this.#restored, place, live);
    const rules = {
      leaveOut: (path: string, stats: Parameters<typeof scope.outside>[1]): boolean =>
        scope.outside(path, stats) !== undefined,
      onFailure: (path: string, error: unknown): void =>
        this.#warn('file-unreadable', path, `cannot be read: ${messageOf(error)}`),
    };
    let entries = 0;
    const { signal } = this.#ctx;
    for await (const entry of joinTree(folderOf(this.#restored, source), live.directory, rules, signal)) {
      throwIfAborted(signal);
      await this.#compare(entry, live.directory, scope);
      if (++entries % entriesPerTurn === 0) await setImmediate();
    }
    const changed = [...this.#databases.values()].filter(({ path }) => this.#changedDatabases.has(path));
    for (const { path, what } of await compareDatabases(changed, live, place.scratchDir, this.#ctx))
      this.#warn('rows-differ', path, what);
  }

  #warn(code: string, path: string, what: string): void {
    this.#differences.report('warning', code, this.#pathOf(path), what);
  }

  #pathOf(path: string): string {
    const { live } = this.#restored.tree;
    return path === '' ? live : `${live === '/' ? '' : live}/${path}`;
  }

  async #compare(
    { path, captured, live }: JoinedEntry,
    root: OpenDirectory,
    scope: TreeScope,
  ): Promise<void> {
    if (captured === undefined) {
      if (this.#isIndex(path)) return;
      this.#noteDatabase(path);
      this.#warn('file-extra', path, 'is not in the snapshot');
      return;
    }
    const sha256 = captured.type === 'file' ? await this.#hashes.take(captured.path) : undefined;
    if (live === undefined) {
      // A socket comes with its process; what is left out now is not compared.
      if (captured.type === 'socket' || isOutside(root, path, scope)) return;
      this.#noteDatabase(path);
      this.#warn('file-missing', path, 'is missing');
      return;
    }
    const type = typeOf(live.stats);
    if (type !== captured.type) {
      this.#warn('file-differs', path, `is a ${type}, and was a ${captured.type}`);
      return;
    }
    const before = this.#readAttributes(live);
    if (before === undefined) return;
    if (live.kind === 'entry' && !(await this.#compareContent(live, captured, sha256))) return;
    this.#compareAttributes(path, captured, before);
  }

  #readAttributes(live: LiveEntry): ArtifactAttributes | undefined {
    try {
      const at = live.kind === 'enter' ? live.directory.at('.') : live.parent.at(live.name);
      return attributesAt(at, live.stats);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) this.#warn('file-missing', live.path, 'is missing');
      else this.#warn('file-unreadable', live.path, `cannot be read: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** False when the difference is already reported and nothing more follows. */
  async #compareContent(
    live: Extract<LiveEntry, { kind: 'entry' }>,
    captured: ArtifactEntry,
    sha256: string | undefined,
  ): Promise<boolean> {
    const { path, parent, name, stats } = live;
    if (captured.type === 'symlink' && parent.readlink(name) !== captured.linkTarget) {
      this.#warn('file-differs', path, 'leads to another target than in the snapshot');
      return false;
    }
    if (captured.device !== undefined && captured.device !== stats.rdev) {
      this.#warn('file-differs', path, 'is another device than in the snapshot');
      return false;
    }
    if (captured.type !== 'file') return true;
    this.#compareLinks(path, captured, `${stats.dev}:${stats.ino}`);
    let problem: string | undefined;
    try {
      problem = (await this.#hashOf(live)) === sha256 ? undefined : 'differs from what was captured';
    } catch (error) {
      throwIfAborted(this.#ctx.signal);
      this.#warn('file-unreadable', path, `cannot be read: ${messageOf(error)}`);
      return false;
    }
    if (problem === undefined) return true;
    this.#noteDatabase(path);
    // 1.0 restored times to the microsecond.
    const sinceUs = stats.mtimeNs / 1000n - captured.attributes.mtimeNs / 1000n;
    if (sinceUs < -1n || sinceUs > 1n) this.#warn('file-differs', path, 'was changed since');
    else
      this.#differences.report(
        'error',
        'file-damaged',
        this.#pathOf(path),
        `${problem}, although its time is the same`,
      );
    return false;
  }

  /** A file that differs may be of a database, whose rows tell more. */
  #noteDatabase(path: string): void {
    const database = partOf(path)?.of ?? path;
    for (const each of [path, database]) if (this.#databases.has(each)) this.#changedDatabases.add(each);
  }

  /** What SQLite makes again wherever the database is opened. */
  #isIndex(path: string): boolean {
    const part = partOf(path);
    return part?.suffix === '-shm' && this.#databases.has(part.of);
  }

  #compareLinks(path: string, { linkGroup }: ArtifactEntry, inode: string): void {
    if (linkGroup === undefined) return;
    const known = this.#groups.get(linkGroup);
    if (known === undefined) this.#groups.set(linkGroup, inode);
    else if (known !== inode)
      this.#warn('link-differs', path, 'was a hard link in the snapshot and is now a separate file');
  }

  async #hashOf({ parent, name, path }: Extract<LiveEntry, { kind: 'entry' }>): Promise<string> {
    const descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(descriptor, { bigint: true });
      const hash = createHash('sha256');
      const body = new FileBody(descriptor, this.#pathOf(path), stats, true, this.#ctx.signal);
      for await (const chunk of body.bytes()) hash.update(chunk);
      return hash.digest('hex');
    } finally {
      closeSync(descriptor);
    }
  }

  #compareAttributes(path: string, { type, attributes: then }: ArtifactEntry, now: ArtifactAttributes): void {
    if (type !== 'symlink' && now.mode !== then.mode)
      this.#warn(
        'mode-differs',
        path,
        `has mode ${now.mode.toString(8)} instead of ${then.mode.toString(8)}`,
      );
    if (now.uid !== then.uid || now.gid !== then.gid)
      this.#warn(
        'owner-differs',
        path,
        `belongs to ${now.uid}:${now.gid} instead of ${then.uid}:${then.gid}`,
      );
    if (now.mtimeNs !== then.mtimeNs)
      this.#warn('time-differs', path, 'has another time than in the snapshot');
    const names = differingNames(then, now);
    if (names.length > 0)
      this.#warn(
        'attributes-differ',
        path,
        `has other extended attributes than in the snapshot: ${names.join(', ')}`,
      );
  }
}

function isOutside(root: OpenDirectory, path: string, scope: TreeScope): boolean {
  const stats = lstatAlong(root, path);
  return stats !== undefined && scope.outside(path, stats) !== undefined;
}

function typeOf(stats: LiveEntry['stats']): ArtifactEntry['type'] {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  return stats.isCharacterDevice() ? 'character-device' : 'block-device';
}

function differingNames(
  { extended: then = [] }: ArtifactAttributes,
  { extended: now = [] }: ArtifactAttributes,
): string[] {
  const values = (list: typeof then): Map<string, string> =>
    new Map(list.map(({ name, value }) => [name, Buffer.from(value).toString('hex')]));
  const [before, after] = [values(then), values(now)];
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].filter((name) => before.get(name) !== after.get(name)).sort();
}
