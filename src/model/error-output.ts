import { hideSqlSecrets } from './sql-secrets.ts';

/** Kept until the program ends, so that a secret and the word that announces it are cut off together. */
const keptBytes = 64 << 10;
const shownChars = 4096;

/** The end of what a program writes to its stderr. PostgreSQL's quote the statement that failed, password and all. */
export class ErrorOutput {
  #kept = Buffer.alloc(0);
  #isCut = false;

  add(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#kept, bytes]);
    this.#isCut ||= all.length > keptBytes;
    this.#kept = all.subarray(-keptBytes);
  }

  /** For an error: at most 4,096 characters, without secrets. */
  toString(): string {
    const firstWhole = this.#isCut ? this.#kept.indexOf('\n') + 1 : 0;
    return hideSqlSecrets(this.#kept.toString('utf8', firstWhole)).trim().slice(-shownChars);
  }
}
