import { once } from 'node:events';
import { closeSync, linkSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { copyFile, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { throwIfAborted } from '../../../model/abort.ts';
import { TarsError } from '../../../model/errors.ts';
import type { CheckRequest, DatabaseContent } from './check-worker.ts';
import { isHotJournal } from './header.ts';

/** Above this, `quick_check`: it does not hold indexes against their tables, which takes most of the time. */
export const integrityCheckBytesMax = 256 << 20;
const tablesMax = 100;

/** Files of a database, in private copies. */
export interface DatabaseCopy {
  readonly main: string;
  readonly wal?: string | undefined;
  readonly journal?: string | undefined;
  readonly sizeBytes: number;
}

/** Checks copies of databases and counts their rows, in a thread of its own. Leaves the copies as they are. */
export class DatabaseChecker implements AsyncDisposable {
  readonly #directory: string;
  #thread: { readonly worker: Worker; readonly ended: AbortSignal } | undefined;
  #count = 0;

  /** @param directory private, on the file system of the copies */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** One after the other. */
  async check(copy: DatabaseCopy, signal: AbortSignal): Promise<DatabaseContent> {
    throwIfAborted(signal);
    const directory = join(this.#directory, `check-${++this.#count}`);
    mkdirSync(directory, { mode: 0o700 });
    try {
      const path = join(directory, 'db');
      const hotJournal = copy.journal !== undefined && isHot(copy.journal) ? copy.journal : undefined;
      const mayWrite = hotJournal !== undefined;
      // SQLite finds what belongs to a database by its name.
      if (mayWrite) {
        await copyFile(copy.main, path, constants.COPYFILE_FICLONE);
        await copyFile(hotJournal, `${path}-journal`);
      } else linkSync(copy.main, path);
      if (copy.wal !== undefined) linkSync(copy.wal, `${path}-wal`);
      const isAlone = !mayWrite && copy.wal === undefined;
      const isQuick = copy.sizeBytes > integrityCheckBytesMax;
      return await this.#ask({ path, isAlone, mayWrite, isQuick, tablesMax }, signal);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  async #ask(request: CheckRequest, signal: AbortSignal): Promise<DatabaseContent> {
    this.#thread ??= startThread();
    const { worker, ended } = this.#thread;
    try {
      const answered = once(worker, 'message', { signal: AbortSignal.any([ended, signal]) });
      worker.postMessage(request);
      const [content] = (await answered) as [DatabaseContent];
      return content;
    } catch (cause) {
      throwIfAborted(signal);
      throw new TarsError('internal', 'The thread that checks SQLite databases ended unexpectedly', {
        cause,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.worker.terminate();
  }
}

function startThread(): { readonly worker: Worker; readonly ended: AbortSignal } {
  const entry = import.meta.url.endsWith('.ts') ? './check-worker.ts' : './check-worker.js';
  const worker = new Worker(new URL(entry, import.meta.url));
  const ended = new AbortController();
  worker.on('exit', () => ended.abort());
  worker.on('error', () => ended.abort());
  return { worker, ended: ended.signal };
}

function isHot(path: string): boolean {
  const descriptor = openSync(path, 'r');
  try {
    return isHotJournal(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
