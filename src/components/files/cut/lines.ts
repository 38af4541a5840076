import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { toTarsError } from '../../../model/errors.ts';

const bufferBytes = 1 << 20;
const newline = 10;

/** Writes lines to a new file, in pieces. */
export class LineWriter implements Disposable {
  readonly #path: string;
  readonly #descriptor: number;
  #waiting: string[] = [];
  #waitingLength = 0;

  constructor(path: string) {
    this.#path = path;
    this.#descriptor = openSync(path, 'wx', 0o600);
  }

  /** @throws TarsError `no-space` */
  write(line: string): void {
    this.#waiting.push(line);
    this.#waitingLength += line.length + 1;
    if (this.#waitingLength >= bufferBytes) this.flush();
  }

  /** @throws TarsError `no-space` */
  flush(): void {
    if (this.#waiting.length === 0) return;
    const bytes = Buffer.from(`${this.#waiting.join('\n')}\n`);
    this.#waiting = [];
    this.#waitingLength = 0;
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(this.#descriptor, bytes, at);
    } catch (error) {
      throw toTarsError(error, `Cannot write to ${this.#path}`);
    }
  }

  /** What was not flushed is lost. */
  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

/** The lines of a file, one after the other; only some are in memory. */
export function* readLines(path: string): Generator<string, undefined, undefined> {
  const descriptor = openSync(path, 'r');
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (;;) {
      const piece = Buffer.allocUnsafe(bufferBytes);
      const bytesRead = readSync(descriptor, piece);
      if (bytesRead === 0) return undefined;
      const bytes: Buffer = Buffer.concat([rest, piece.subarray(0, bytesRead)]);
      let start = 0;
      for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
        yield bytes.toString('utf8', start, end);
        start = end + 1;
      }
      rest = bytes.subarray(start);
    }
  } finally {
    closeSync(descriptor);
  }
}
