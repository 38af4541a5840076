import { spawn } from 'node:child_process';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Measurement {
  readonly wallMs: number;
  /** User and system time of the command and every child it waited for. */
  readonly cpuMs: number;
  /** Of the largest single process. */
  readonly peakBytes: number;
}

/** Runs a shell command under GNU time. @throws Error with its stderr when it fails */
export async function measure(
  command: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Measurement> {
  const report = join(tmpdir(), `tars-bench-time-${process.pid}`);
  const argv = ['-f', '%e %U %S %M', '-o', report, 'sh', '-c', command];
  const child = spawn('/usr/bin/time', argv, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-2000)));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  if (code !== 0) throw new Error(`${command} exited with ${code}: ${stderr}`);
  const [wall, user, system, peakKib] = (await readFile(report, 'utf8')).trim().split(' ').map(Number);
  await rm(report, { force: true });
  return {
    wallMs: (wall ?? 0) * 1000,
    cpuMs: ((user ?? 0) + (system ?? 0)) * 1000,
    peakBytes: (peakKib ?? 0) * 1024,
  };
}

/** Bytes of all files below `directory`. */
export async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((e) => e.isFile())
    .map(async (e) => (await stat(join(e.parentPath, e.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
