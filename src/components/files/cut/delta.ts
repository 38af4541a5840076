import type { LineWriter } from './lines.ts';
import { readLines } from './lines.ts';
import { decodeMarked, encodeMarked, type MarkedEntry } from './marked.ts';
import { NoteReader } from './note.ts';

/** What a tree was at the mark, as what is different from the note of the last walk before. */
export class DeltaWriter {
  readonly #lines: LineWriter;
  #same = 0;

  constructor(lines: LineWriter) {
    this.#lines = lines;
  }

  /** The next line of the note still holds. */
  same(): void {
    this.#same += 1;
  }

  /** The next lines of the note do not. */
  drop(count: number): void {
    if (count === 0) return;
    this.#writeSame();
    this.#lines.write(`-${count}`);
  }

  /** Something that the note does not have. */
  put(entry: MarkedEntry): void {
    this.#writeSame();
    this.#lines.write(`+${encodeMarked(entry)}`);
  }

  /** What of the note was not reached is dropped. */
  finish(): void {
    this.#writeSame();
    this.#lines.flush();
  }

  #writeSame(): void {
    if (this.#same > 0) this.#lines.write(`=${this.#same}`);
    this.#same = 0;
  }
}

/** All entries of the mark, in the order of a walk. */
export function* markedEntries(notePath: string, deltaPath: string): Generator<MarkedEntry, undefined> {
  using note = new NoteReader(notePath);
  for (const line of readLines(deltaPath)) {
    if (line.startsWith('+')) {
      yield decodeMarked(line.slice(1));
      continue;
    }
    for (let count = Number(line.slice(1)); count > 0; count--) {
      const { entry } = line.startsWith('=') ? note : { entry: undefined };
      if (entry !== undefined) yield entry;
      note.next();
    }
  }
  return undefined;
}
