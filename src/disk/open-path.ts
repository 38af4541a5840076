import { dirname } from 'node:path';
import { hasErrno, TarsError, toTarsError } from '../model/errors.ts';
import { OpenDirectory } from './open-directory.ts';

/** A directory that was opened by a path, and the path that led there once every link was followed. */
export interface OpenedPath extends Disposable {
  readonly directory: OpenDirectory;
  readonly path: string;
}

/** As many links as Linux follows. */
const linksMax = 40;

/**
 * Opens the directory at an absolute path step by step. A symbolic link is followed only where nobody but root and this
 * user could have put it: whoever may write beside it would choose what is read and written otherwise.
 * @param options.create make what is missing, with this mode
 * @throws TarsError `storage-not-found` when it is missing, `access-denied` for a link of somebody else
 */
export async function openPath(
  path: string,
  options: { readonly access?: 'read' | 'path'; readonly create?: number } = {},
): Promise<OpenedPath> {
  using walk = new PathWalk(path);
  try {
    while (walk.hasMore) await walk.step(options.create);
    return walk.finish(options.access ?? 'read');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) {
      throw new TarsError('storage-not-found', `The directory ${path} does not exist`, {
        hint: 'Create it, mount the disk it is on, or correct the path in tars.yaml.',
        cause: error,
      });
    }
    throw toTarsError(error, `Cannot open the directory ${path}`);
  }
}

class PathWalk implements Disposable {
  readonly #wanted: string;
  /** Names still to go, the next one last. */
  #pending: string[];
  /** From the root down to where it is now. */
  #way: { readonly name: string; readonly directory: OpenDirectory }[];
  #links = 0;

  constructor(path: string) {
    this.#wanted = path;
    this.#pending = namesOf(path);
    this.#way = [{ name: '', directory: OpenDirectory.open('/', 'path') }];
  }

  get hasMore(): boolean {
    return this.#pending.length > 0;
  }

  get #path(): string {
    return `/${this.#way
      .slice(1)
      .map(({ name }) => name)
      .join('/')}`;
  }

  get #here(): OpenDirectory {
    return (this.#way.at(-1) ?? this.#fail()).directory;
  }

  #fail(): never {
    throw new TarsError('internal', `${this.#wanted} leads above the root`);
  }

  async step(create: number | undefined): Promise<void> {
    const name = this.#pending.pop() ?? '';
    if (name === '..') {
      if (this.#way.length > 1) this.#way.pop()?.directory.close();
      return;
    }
    const stats = this.#here.lstat(name);
    if (stats?.isSymbolicLink() === true) {
      this.#requireTrusted(name, Number(stats.uid));
      this.#follow(this.#here.readlink(name));
      return;
    }
    this.#way.push({ name, directory: await this.#enter(name, stats === undefined ? create : undefined) });
  }

  async #enter(name: string, create: number | undefined): Promise<OpenDirectory> {
    if (create === undefined) return this.#here.openDirectory(name, 'path');
    try {
      using created = await this.#here.createDirectory(name, create);
      return created.openDirectory('.', 'path');
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) return this.#here.openDirectory(name, 'path');
      throw error;
    }
  }

  #follow(target: string): void {
    if (++this.#links > linksMax)
      throw new TarsError('access-denied', `${this.#wanted} leads through more than ${linksMax} links`);
    this.#pending.push(...namesOf(target));
    if (!target.startsWith('/')) return;
    for (const { directory } of this.#way.splice(1)) directory.close();
  }

  /** The directory that the link lies in is only ours or root's to write, or sticky, and then the link is. */
  #requireTrusted(name: string, linkUid: number): void {
    const { mode, uid, gid } = this.#here.stat();
    const ours = (id: number): boolean => id === 0 || id === process.geteuid?.();
    const othersWrite = (mode & 0o002n) !== 0n || ((mode & 0o020n) !== 0n && gid !== 0n);
    const isSticky = (mode & 0o1000n) !== 0n;
    if (ours(Number(uid)) && (!othersWrite || (isSticky && ours(linkUid)))) return;
    const link = `${this.#path === '/' ? '' : this.#path}/${name}`;
    throw new TarsError(
      'access-denied',
      `Cannot use ${this.#wanted}: ${link} is a symbolic link that users other than root may change (they may write to ${dirname(link)})`,
      { hint: 'Name the directory itself in tars.yaml, not a link to it.', context: { path: link } },
    );
  }

  finish(access: 'read' | 'path'): OpenedPath {
    const directory = this.#here.openDirectory('.', access);
    return { directory, path: this.#path, [Symbol.dispose]: () => directory.close() };
  }

  [Symbol.dispose](): void {
    for (const { directory } of this.#way.splice(0)) directory.close();
  }
}

/** In reverse. */
const namesOf = (path: string): string[] =>
  path
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .reverse();
