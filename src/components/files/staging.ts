import { createHash } from 'node:crypto';
import { chmodSync, closeSync, constants } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../model/abort.ts';
import type { OpenDirectory } from '../../disk/open-directory.ts';
import { makeNode, setTimes, syncFileSystem } from '../../disk/posix/index.ts';
import { CorruptionError, hasErrno, toTarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, ArtifactEntry, ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { openAlong, splitPath } from './tree/along.ts';
import { setOpen, setUnopened } from './tree/attributes.ts';
import type { ArtifactHashes } from './tree/hashes.ts';
import { entriesOf, type SnapshotFolder } from './tree/joined.ts';
import { Lanes } from './tree/lanes.ts';
import { SparseWriter } from './tree/sparse-writer.ts';
import type { UnsetList } from './unset.ts';

const filesAtOnce = 4;
/** After this many entries, other work gets its turn. */
const entriesPerTurn = 64;

/** What is shared by all trees of a restore. */
export interface StagingContext {
  readonly source: ArtifactSource;
  readonly hashes: ArtifactHashes;
  readonly hardLinks: StagedLinks;
  readonly unset: UnsetList;
  /** Told of a file that differs from what was captured. */
  readonly onDamage: (path: string, problem: string) => void;
  readonly ctx: OperationContext;
}

/** Where a file was staged. */
interface StagedFile {
  readonly root: OpenDirectory;
  readonly path: string;
}

/** The first name of every file that has several; undefined for one that could not be written. */
type StagedLinks = Map<string, Promise<StagedFile | undefined>>;

interface Level {
  readonly path: string;
  readonly directory: OpenDirectory;
  readonly attributes: ArtifactAttributes;
}

/** Writes one tree of a snapshot into an empty directory that nobody else can enter. */
export class TreeStaging {
  readonly #shared: StagingContext;
  readonly #folder: SnapshotFolder;
  readonly #root: OpenDirectory;
  readonly #lanes = new Lanes(filesAtOnce);
  readonly #levels: Level[] = [];

  constructor(shared: StagingContext, folder: SnapshotFolder, root: OpenDirectory) {
    this.#shared = shared;
    this.#folder = folder;
    this.#root = root;
  }

  /** @throws CorruptionError when the snapshot has no such tree, or what is no tree */
  async run(): Promise<void> {
    const { ctx } = this.#shared;
    let entries = 0;
    try {
      for await (const entry of entriesOf(this.#folder, ctx.signal)) {
        throwIfAborted(ctx.signal);
        await this.#take(entry);
        if (++entries % entriesPerTurn === 0) await setImmediate();
      }
      if (this.#levels.length === 0)
        throw new CorruptionError(`The snapshot does not hold ${this.#folder.prefix}`);
      while (this.#levels.length > 0) await this.#leave();
    } finally {
      await this.#lanes.settle().finally(() => {
        for (const { directory } of this.#levels) directory.close();
      });
    }
    await syncFileSystem(this.#root.descriptor);
  }

  async #take(entry: ArtifactEntry): Promise<void> {
    if (entry.path === this.#folder.prefix) {
      this.#levels.push({ path: '', directory: this.#root.openDirectory('.'), attributes: entry.attributes });
      return;
    }
    const path = entry.path.slice(this.#folder.prefix.length + 1);
    const { above, name } = splitPath(path);
    const parent = await this.#leaveUntil(above);
    // Nothing is written beside the tree.
    if (parent === undefined || name === '' || name === '.' || name === '..')
      throw new CorruptionError(`${entry.path} is in the snapshot, but its directory is not`);
    if (entry.type === 'directory') {
      const directory = await parent.createDirectory(name);
      this.#levels.push({ path, directory, attributes: entry.attributes });
    } else if (entry.type === 'file') await this.#startFile(entry, path, name, parent);
    else await this.#other(entry, path, name, parent);
  }

  async #leaveUntil(path: string): Promise<OpenDirectory | undefined> {
    while (this.#levels.length > 0) {
      const level = this.#levels.at(-1);
      if (level?.path === path) return level.directory;
      if (level?.path === '') return undefined;
      await this.#leave();
    }
    return undefined;
  }

  /** Everything in the directory is written. What is created in it would change its time. */
  async #leave(): Promise<void> {
    await this.#lanes.settle();
    const level = this.#levels.pop();
    if (level === undefined) return;
    const { path, directory, attributes } = level;
    setOpen(directory.descriptor, directory.at('.'), 'directory', attributes, this.#unset(path));
    directory.close();
  }

  #unset(path: string): (what: string) => void {
    return (what) => this.#shared.unset.add(what, path === '' ? '.' : path);
  }

  async #other(entry: ArtifactEntry, path: string, name: string, parent: OpenDirectory): Promise<void> {
    const onUnset = this.#unset(path);
    switch (entry.type) {
      case 'symlink':
        await parent.symlink(name, entry.linkTarget ?? '');
        break;
      case 'fifo':
      case 'character-device':
      case 'block-device':
        try {
          makeNode(parent.at(name), entry.type, entry.device);
        } catch (error) {
          if (!hasErrno(error, 'EPERM')) throw error;
          onUnset(`the ${entry.type} itself`);
          return;
        }
        break;
      // Without its process a socket is of no use; that creates it again.
      case 'socket':
        return;
      case 'file':
      case 'directory':
      case 'other':
        throw new CorruptionError(`${entry.path} in the snapshot has an unknown type`);
    }
    setUnopened(parent.at(name), entry.attributes, onUnset);
    if (entry.type !== 'symlink') this.#setMode(entry, name, parent);
  }

  /** Nobody else can put a link in its place here. */
  #setMode({ attributes }: ArtifactEntry, name: string, parent: OpenDirectory): void {
    chmodSync(parent.at(name), attributes.mode);
    setTimes(parent.at(name), attributes.mtimeNs, attributes.mtimeNs);
  }

  async #startFile(entry: ArtifactEntry, path: string, name: string, parent: OpenDirectory): Promise<void> {
    const { hardLinks, hashes } = this.#shared;
    const { linkGroup } = entry;
    const known = linkGroup === undefined ? undefined : hardLinks.get(linkGroup);
    const sha256 = await hashes.take(entry.path);
    if (sha256 === undefined) throw new CorruptionError(`The manifest does not list ${entry.path}`);
    const written = Promise.withResolvers<StagedFile | undefined>();
    if (linkGroup !== undefined && known === undefined) hardLinks.set(linkGroup, written.promise);
    await this.#lanes.start(async () => {
      let staged: StagedFile | undefined;
      try {
        if (known !== undefined && (await this.#link(await known, name, parent))) return;
        await this.#write(entry, sha256, path, name, parent);
        staged = { root: this.#root, path };
      } finally {
        written.resolve(staged);
      }
    });
  }

  /** False where one more name cannot be had, and a copy must do. */
  async #link(first: StagedFile | undefined, name: string, parent: OpenDirectory): Promise<boolean> {
    if (first === undefined) return false;
    const { above, name: firstName } = splitPath(first.path);
    try {
      using directory = openAlong(first.root, above);
      await directory.link(firstName, parent, name);
      return true;
    } catch (error) {
      if (['EXDEV', 'EMLINK', 'EPERM', 'EACCES'].some((errno) => hasErrno(error, errno))) return false;
      throw error;
    }
  }

  async #write(
    entry: ArtifactEntry,
    sha256: string,
    path: string,
    name: string,
    parent: OpenDirectory,
  ): Promise<void> {
    const { source, onDamage, ctx } = this.#shared;
    const task = ctx.progress.start(entry.path, entry.sizeBytes);
    let outcome: 'ok' | 'failed' = 'failed';
    const descriptor = parent.openFile(name, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    try {
      const hash = createHash('sha256');
      const writer = new SparseWriter(descriptor);
      for await (const chunk of source.open(entry.path, ctx.signal)) {
        hash.update(chunk);
        await writer.write(chunk);
        task.advance(chunk.byteLength);
      }
      const sizeBytes = writer.finish();
      if (sizeBytes !== entry.sizeBytes || hash.digest('hex') !== sha256)
        onDamage(path, 'differs from what was captured');
      setOpen(descriptor, parent.at(name), 'file', entry.attributes, this.#unset(path));
      outcome = 'ok';
    } catch (error) {
      throw toTarsError(error, `Cannot write ${path}`);
    } finally {
      closeSync(descriptor);
      task.finish(outcome);
    }
  }
}
