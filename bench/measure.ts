import { spawn } from 'node:child_process';
import { open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Measurement {
  readonly wallMs: number;
  /** User and system time of the command and every child it waited for. */
  readonly cpuMs: number;
  /** Of the largest single process. */
  readonly peakBytes: number;
}

export interface MeasureOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Runs a program under GNU time, after what others wrote is on the disk. @throws Error with its stderr when it fails */
export async function measure(argv: readonly string[], options: MeasureOptions): Promise<Measurement> {
  await run(['sync'], options);
  const report = join(tmpdir(), `tars-bench-time-${process.pid}`);
  await run(['/usr/bin/time', '-f', '%e %U %S %M', '-o', report, ...argv], options);
  const [wall, user, system, peakKib] = (await readFile(report, 'utf8')).trim().split(' ').map(Number);
  await rm(report, { force: true });
  return {
    wallMs: (wall ?? 0) * 1000,
    cpuMs: ((user ?? 0) + (system ?? 0)) * 1000,
    peakBytes: (peakKib ?? 0) * 1024,
  };
}

/** As {@link measure}, a script for `sh`, which ends at its first failure. */
export function measureScript(script: string, options: MeasureOptions): Promise<Measurement> {
  return measure(['sh', '-ec', script], options);
}

/** What `work` took on the clock; what it starts and does is not its CPU time. */
export async function measureWall(work: () => Promise<void>): Promise<Measurement> {
  const startedMs = performance.now();
  await work();
  return { wallMs: performance.now() - startedMs, cpuMs: 0, peakBytes: 0 };
}

/** One after the other. */
export function total(parts: readonly Measurement[]): Measurement {
  return {
    wallMs: parts.reduce((sum, { wallMs }) => sum + wallMs, 0),
    cpuMs: parts.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    peakBytes: Math.max(0, ...parts.map(({ peakBytes }) => peakBytes)),
  };
}

/** @throws Error with the end of its stderr when it fails */
async function run([file, ...args]: readonly string[], { env, signal }: MeasureOptions): Promise<void> {
  // A file, because a server that is started keeps a pipe open.
  const errors = join(tmpdir(), `tars-bench-stderr-${process.pid}`);
  const stderr = await open(errors, 'w');
  try {
    const child = spawn(file ?? '', args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', stderr.fd],
      signal,
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', resolve);
    });
    if (code === 0) return;
    const said = (await readFile(errors, 'utf8')).slice(-2000);
    throw new Error(`${[file, ...args].join(' ')} exited with ${code}: ${said}`);
  } finally {
    await stderr.close();
    await rm(errors, { force: true });
  }
}

/** Bytes of all files below `directory`. */
export async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((e) => e.isFile())
    .map(async (e) => (await stat(join(e.parentPath, e.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
