import { execa } from 'execa';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { freePort, waitUntil, type PrivateServer } from './common.ts';

/** The newest build of the real server that loads on glibc 2.36 (Debian 12). */
const chromaPackage = 'chromadb-js-bindings-linux-x64-gnu';
const chromaVersion = '1.0.1';

export interface PrivateChroma extends PrivateServer {
  readonly url: string;
  /** Runs in the foreground; {@link PrivateServer.startCommand} is the same command. */
  readonly pid: () => number | undefined;
}

/** Installs the Chroma server's npm package into the user's cache once; returns the package's directory. */
export async function ensureChroma(): Promise<string> {
  const cacheBase = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const directory = join(cacheBase, 'tars-demo', `chroma-${chromaVersion}`);
  const installed = join(directory, 'node_modules', chromaPackage);
  const found = await access(join(installed, 'package.json')).then(
    () => true,
    () => false,
  );
  if (found) return installed;
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new TarsError(
      'configuration',
      `There is no Chroma server package for ${process.platform} ${process.arch} here`,
      {
        hint: 'Run this on 64-bit x86 Linux with glibc 2.35 or newer.',
      },
    );
  }
  await mkdir(directory, { recursive: true });
  try {
    await execa('npm', ['install', '--prefix', directory, '--no-save', `${chromaPackage}@${chromaVersion}`]);
  } catch (cause) {
    throw new TarsError('configuration', `Cannot install ${chromaPackage}@${chromaVersion} with npm`, {
      hint: 'Check that npm reaches its registry, then run this again.',
      cause,
    });
  }
  return installed;
}

/** Starts a private Chroma 1.0 server under `directory`. */
export async function startChroma(
  directory: string,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<PrivateChroma> {
  const packageDirectory = await ensureChroma();
  const dataDir = join(directory, 'data');
  await mkdir(dataDir, { recursive: true });
  const port = await freePort();
  const launcher = join(directory, 'chroma.cjs');
  const pidFile = join(directory, 'chroma.pid');
  const argv = ['chroma', 'run', '--path', dataDir, '--host', '127.0.0.1', '--port', String(port)];
  // The server runs inside the Node process that calls cli().
  await writeFile(
    launcher,
    `require('node:fs').writeFileSync(${JSON.stringify(pidFile)}, String(process.pid));\n` +
      `require(${JSON.stringify(packageDirectory)}).cli(${JSON.stringify(argv)});\n`,
  );
  const url = `http://127.0.0.1:${port}`;
  let child: (PromiseLike<unknown> & { readonly pid?: number | undefined }) | undefined;
  const heartbeat = async (): Promise<void> => {
    const response = await fetch(`${url}/api/v2/heartbeat`);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
  };
  const start = async (): Promise<void> => {
    child = execa(process.execPath, [launcher], {
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'ignore',
      reject: false,
    });
    await waitUntil(`Chroma on port ${port}`, heartbeat, ctx);
  };
  const stop = async (): Promise<void> => {
    // After a restore the server was started by tars, not by us: the pid file tells.
    const pid = child?.pid ?? Number(await readFile(pidFile, 'utf8').catch(() => ''));
    if (pid > 0 && isAlive(pid)) {
      process.kill(pid, 'SIGTERM');
      const gone = new AbortController().signal;
      const ended = async (): Promise<void> => {
        if (isAlive(pid)) throw new Error('still running');
        return Promise.resolve();
      };
      await waitUntil(`The end of Chroma on port ${port}`, ended, { clock: ctx.clock, signal: gone });
    }
    await child;
    child = undefined;
  };
  await start();
  return {
    host: '127.0.0.1',
    port,
    url,
    dataDir,
    pidFile,
    startCommand: [process.execPath, launcher],
    stopCommand: ['sh', '-c', `kill "$(cat '${pidFile}')"`],
    pid: () => child?.pid,
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
