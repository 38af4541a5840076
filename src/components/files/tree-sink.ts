import type { ArtifactSink, FileIdentity } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { TarsError } from '../../model/errors.ts';
import { someOf } from '../../model/plural.ts';
import type { IncompleteList } from '../paths/incomplete.ts';
import { treeFolder, type CapturedDatabase, type CapturedTree } from './facts.ts';
import type { FileEntry, TreeEntry } from './tree/entry.ts';
import { isWithheld } from './withholding-sink.ts';
import { Lanes } from './tree/lanes.ts';
import type { Tree } from './tree/scope.ts';

export const filesAtOnce = 8;
/** How many entries a message for information names. */
export const namedMax = 20;

/** Artifacts by the file that they are a name of. */
export class HardLinks {
  readonly #first = new Map<string, Promise<string | undefined>>();
  readonly #withheld = new Set<string>();

  static keyOf = ({ deviceId = 0n, inode }: FileIdentity): string => `${deviceId}:${inode}`;

  /** Where the file was captured under another name; undefined for the first. */
  find(identity: FileIdentity): Promise<string | undefined> | undefined {
    return hasSeveralNames(identity) ? this.#first.get(HardLinks.keyOf(identity)) : undefined;
  }

  /** Holds secrets under one of its names, so that it does under all. */
  withhold(identity: FileIdentity): void {
    this.#withheld.add(HardLinks.keyOf(identity));
  }

  isWithheld(identity: FileIdentity): boolean {
    return this.#withheld.has(HardLinks.keyOf(identity));
  }

  /** @param captured resolves to the artifact, or undefined when it could not be captured */
  note(identity: FileIdentity, captured: Promise<string | undefined>): void {
    if (hasSeveralNames(identity)) this.#first.set(HardLinks.keyOf(identity), captured);
  }
}

export const hasSeveralNames = ({ links = 1 }: FileIdentity): boolean => links > 1;

/** Where the entries of one tree go. */
export interface TreeSinkOptions {
  readonly name: string;
  readonly tree: Tree;
  readonly incomplete: IncompleteList;
  readonly hardLinks: HardLinks;
  readonly sink: ArtifactSink;
  readonly ctx: OperationContext;
}

/** Records the entries of one tree in the order of a walk, and counts them. Files may be written side by side. */
export class TreeSink {
  readonly #parts: TreeSinkOptions;
  readonly #folder: string;
  readonly #lanes = new Lanes(filesAtOnce);
  readonly #changing: string[] = [];
  readonly #withheld: string[] = [];
  #files = 0;
  #sizeBytes = 0;
  #databases = { databases: [] as CapturedDatabase[], databaseCount: 0 };

  constructor(parts: TreeSinkOptions) {
    this.#parts = parts;
    this.#folder = treeFolder(parts.name, parts.tree.path);
  }

  /** Everything but a regular file. */
  record(entry: Exclude<TreeEntry, FileEntry>): Promise<void> {
    const { sink } = this.#parts;
    const artifact = this.artifact(entry.path);
    switch (entry.type) {
      case 'directory':
        return sink.directory(artifact, entry.attributes);
      case 'symlink':
        return sink.symlink(artifact, entry.target, entry.attributes);
      case 'special':
        return sink.special(artifact, entry.file, entry.attributes);
    }
  }

  /** Nothing more of this directory follows. */
  async leave(path: string): Promise<void> {
    // Files of a directory are opened from there.
    await this.#lanes.settle();
    await this.#parts.sink.finish(this.artifact(path));
  }

  /**
   * Records a file, or one more name of it. Resolves when it has begun.
   * @param write resolves to false when it could not be captured
   */
  async file(entry: FileEntry, write: () => Promise<boolean>): Promise<void> {
    const { hardLinks } = this.#parts;
    const known = hardLinks.find(entry.identity);
    const first = known === undefined ? Promise.withResolvers<string | undefined>() : undefined;
    if (first !== undefined) hardLinks.note(entry.identity, first.promise);
    await this.#lanes.start(async () => {
      let artifact: string | undefined;
      try {
        const existing = await known;
        if (hasSeveralNames(entry.identity) && hardLinks.isWithheld(entry.identity)) {
          this.#withheld.push(entry.path);
          return;
        }
        if (known !== undefined && (await this.#link(entry, existing))) return;
        if (await write()) artifact = this.artifact(entry.path);
      } catch (error) {
        if (!isWithheld(error)) throw error;
        this.#withheld.push(entry.path);
        if (hasSeveralNames(entry.identity)) hardLinks.withhold(entry.identity);
      } finally {
        first?.resolve(artifact);
      }
    });
  }

  /** False when the file is to be captured as any other. */
  async #link({ path, identity }: FileEntry, existing: string | undefined): Promise<boolean> {
    if (existing === undefined) return false;
    try {
      await this.#parts.sink.link(this.artifact(path), existing, identity);
      this.#files += 1;
      return true;
    } catch (error) {
      if (error instanceof TarsError && error.code === 'artifact-not-found') return false;
      throw error;
    }
  }

  /** Waits for the files that have begun. */
  settle(): Promise<void> {
    return this.#lanes.settle();
  }

  count(diskBytes: number): void {
    this.#files += 1;
    this.#sizeBytes += diskBytes;
  }

  artifact(path: string): string {
    return path === '' ? this.#folder : `${this.#folder}/${path}`;
  }

  missing(path: string, reason: unknown): void {
    this.#parts.incomplete.add(this.pathOf(path), reason);
  }

  /** For a person. */
  pathOf(path: string): string {
    const { tree } = this.#parts;
    return path === '' ? tree.path : `${tree.path === '/' ? '' : tree.path}/${path}`;
  }

  /** A file was never the same from the beginning to the end of a reading: what is kept may never have been its content. */
  changed(path: string): void {
    this.#changing.push(path);
    this.missing(path, 'it changed every time it was read, so what the snapshot keeps may be torn');
  }

  /** What the manifest says of the databases in the tree. */
  describe(databases: readonly CapturedDatabase[], count: number): void {
    this.#databases = { databases: [...databases], databaseCount: count };
  }

  /** What goes into the manifest. */
  finish(): CapturedTree {
    const { tree, ctx } = this.#parts;
    const changing = this.#changing.slice(0, namedMax);
    if (changing.length > 0)
      ctx.log.warn(
        `${someOf(changing, this.#changing.length)} in ${tree.path} changed every time it was read; the snapshot keeps the last reading`,
      );
    const withheld = this.#withheld.sort();
    if (withheld.length > 0)
      ctx.log.warn(
        `${someOf(withheld.slice(0, namedMax), withheld.length)} in ${tree.path} can hold secrets, so this archive, which is not encrypted, leaves them out. A restore keeps the files that are there. Back up into a repository to capture them`,
      );
    return {
      ...{ path: tree.path, entries: [], skipped: withheld, changing },
      ...{ files: this.#files, sizeBytes: this.#sizeBytes, exclude: [...tree.exclude] },
      ...(this.#databases.databaseCount > 0 ? this.#databases : {}),
    };
  }
}
