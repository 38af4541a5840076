import { encodeLossless } from '../model/byte-text.ts';
import type { TarsError } from '../model/errors.ts';
import type { TarHeader } from './tar-format.ts';

/** Entries are remembered in memory, by who writes an archive and by who reads it. */
const maxEntries = 1_000_000;
/** Their names, link targets and attributes together: a bomb of a few kilobytes could hold gigabytes of them. */
const maxNamesBytes = 128 * 1024 * 1024;

/** Counts the entries of an archive. The writer counts the same way, so that it writes none that cannot be read. */
export class EntryCount {
  readonly #refuse: (message: string) => TarsError;
  #entries = 0;
  #namesBytes = 0;

  /** @param refuse makes the error from a description of what is too large */
  constructor(refuse: (message: string) => TarsError) {
    this.#refuse = refuse;
  }

  /** @param path below the archive's root */
  add(path: string, { linkTarget = '', attributes: { extended = [] } }: TarHeader): void {
    const names = [path, linkTarget, ...extended.map(({ name }) => name)];
    const valuesBytes = extended.reduce((sum, { value }) => sum + value.length, 0);
    this.#namesBytes += names.reduce((sum, name) => sum + encodeLossless(name).length, valuesBytes);
    this.#entries++;
    if (this.#namesBytes > maxNamesBytes) {
      throw this.#refuse(`The names and attributes of its entries take more than ${maxNamesBytes} bytes`);
    }
    if (this.#entries > maxEntries) throw this.#refuse(`The archive holds more than ${maxEntries} entries`);
  }
}
