import { execa } from 'execa';
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contestant, Restored } from './contestant.ts';
import type { Dumps } from './dumps.ts';
import { bytesBelow, measureScript, total, type Measurement } from './measure.ts';

/** Stock restic as installed. @returns such as `restic 0.18.0` */
export async function resticVersion(): Promise<string> {
  const { stdout } = await execa('restic', ['version']);
  return /^restic \S+/.exec(stdout)?.[0] ?? stdout;
}

/** Dumps, and stock restic over them. */
export class DumpsAndRestic implements Contestant {
  readonly name = 'dumps + restic';
  readonly #dumps: Dumps;
  readonly #signal: AbortSignal;
  readonly #repository: string;
  readonly #cache: string;
  readonly #password = randomBytes(16).toString('base64url');

  constructor(dumps: Dumps, signal: AbortSignal) {
    this.#dumps = dumps;
    this.#signal = signal;
    this.#repository = join(dumps.root, 'restic');
    this.#cache = join(dumps.root, 'restic-cache');
  }

  async begin(): Promise<void> {
    await rm(this.#repository, { recursive: true, force: true });
    await rm(this.#cache, { recursive: true, force: true });
    await this.#restic('init');
  }

  async backup(): Promise<Measurement> {
    const dumped = await this.#dumps.dump();
    const stored = await this.#restic(`backup ${this.#dumps.paths.join(' ')}`);
    await this.#dumps.discard();
    return total([dumped, stored]);
  }

  storedBytes(): Promise<number> {
    return bytesBelow(this.#repository);
  }

  check(): Promise<Measurement> {
    return this.#restic('check --read-data');
  }

  async restore(): Promise<Restored> {
    const extracted = join(this.#dumps.root, 'extracted');
    await mkdir(extracted, { mode: 0o700 });
    const extraction = await this.#restic(`restore latest --target ${extracted}`);
    const placed = await this.#dumps.putInPlace(extracted);
    await rm(extracted, { recursive: true });
    return { whole: total([extraction, placed]), extraction };
  }

  #restic(args: string): Promise<Measurement> {
    const env = {
      RESTIC_REPOSITORY: this.#repository,
      RESTIC_CACHE_DIR: this.#cache,
      RESTIC_PASSWORD: this.#password,
    };
    return measureScript(`cd ${this.#dumps.root}; restic ${args}`, { env, signal: this.#signal });
  }
}
