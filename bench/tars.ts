import { execa } from 'execa';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DemoStack } from '../src/demo/stack.ts';
import type { Contestant, Restored } from './contestant.ts';
import { bytesBelow, measure, type Measurement } from './measure.ts';

const project = fileURLToPath(new URL('..', import.meta.url));

/** Compiles the package's JavaScript into `directory`: what operators run, not what developers do. @returns its program */
export async function compileTars(directory: string): Promise<string> {
  await mkdir(directory);
  const dist = join(directory, 'dist');
  await execa(join(project, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json', '--outDir', dist], {
    cwd: project,
  });
  await symlink(join(project, 'node_modules'), join(directory, 'node_modules'));
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  return join(dist, 'cli/main.js');
}

/** The program itself, run as an operator runs it. */
export class Tars implements Contestant {
  readonly name = 'tars';
  readonly #program: string;
  readonly #stack: DemoStack;
  readonly #signal: AbortSignal;

  constructor(program: string, stack: DemoStack, signal: AbortSignal) {
    this.#program = program;
    this.#stack = stack;
    this.#signal = signal;
  }

  async begin(): Promise<void> {
    await rm(this.#stack.repositoryPath, { recursive: true, force: true });
    await rm(join(this.#stack.root, 'tars-recovery.key'), { force: true });
    await this.#tars('init');
  }

  backup(): Promise<Measurement> {
    return this.#tars('backup', '--include-models');
  }

  storedBytes(): Promise<number> {
    return bytesBelow(this.#stack.repositoryPath);
  }

  check(): Promise<Measurement> {
    return this.#tars('check', '--read-data');
  }

  async restore(): Promise<Restored> {
    return { whole: await this.#tars('restore', '--yes', '--restore-config', '--discard-previous') };
  }

  #tars(...args: string[]): Promise<Measurement> {
    const argv = [process.execPath, this.#program, '--config', this.#stack.settingsPath, ...args];
    return measure(argv, { signal: this.#signal });
  }
}
