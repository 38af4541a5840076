import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contestant, Restored } from './contestant.ts';
import type { Dumps } from './dumps.ts';
import { bytesBelow, measureScript, total, type Measurement } from './measure.ts';

/** Dumps, and a `.tar.gz` of them with a checksum beside it, every time whole. Nothing is encrypted. */
export class DumpsAndTar implements Contestant {
  readonly name = 'dumps + tar | gzip';
  readonly #dumps: Dumps;
  readonly #signal: AbortSignal;
  readonly #directory: string;
  #backups = 0;

  constructor(dumps: Dumps, signal: AbortSignal) {
    this.#dumps = dumps;
    this.#signal = signal;
    this.#directory = join(dumps.root, 'archives');
  }

  async begin(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
    await mkdir(this.#directory, { mode: 0o700 });
    this.#backups = 0;
  }

  async backup(): Promise<Measurement> {
    const archive = `backup-${++this.#backups}.tar.gz`;
    const dumped = await this.#dumps.dump();
    const { root, paths } = this.#dumps;
    const packed = await this.#script(`
      tar -C ${root} -cf - ${paths.join(' ')} | gzip > ${archive}
      sha256sum ${archive} > ${archive}.sha256
      sync ${archive} ${archive}.sha256
    `);
    await this.#dumps.discard();
    return total([dumped, packed]);
  }

  storedBytes(): Promise<number> {
    return bytesBelow(this.#directory);
  }

  check(): Promise<Measurement> {
    return this.#script('cat *.sha256 | sha256sum -c --quiet');
  }

  async restore(): Promise<Restored> {
    const extracted = join(this.#dumps.root, 'extracted');
    await mkdir(extracted, { mode: 0o700 });
    const extraction = await this.#script(`tar -C ${extracted} -xzf backup-${this.#backups}.tar.gz`);
    const placed = await this.#dumps.putInPlace(extracted);
    await rm(extracted, { recursive: true });
    return { whole: total([extraction, placed]), extraction };
  }

  #script(script: string): Promise<Measurement> {
    return measureScript(`cd ${this.#directory}\n${script}`, { signal: this.#signal });
  }
}
