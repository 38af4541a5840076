import { execa } from 'execa';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory } from '../../disk/home.ts';
import { TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { freePort, onFreePort, type PickPort, type PrivateServer } from './common.ts';
import { endProcess, launchServer, runningPid, type ServerProcess } from './server-process.ts';

/** The newest build of the real server that loads on glibc 2.36 (Debian 12). */
const chromaPackage = 'chromadb-js-bindings-linux-x64-gnu';
const chromaVersion = '1.0.1';

export interface PrivateChroma extends PrivateServer {
  readonly url: string;
  /** Of the process that runs as this server now, whoever started it. */
  readonly pid: () => Promise<number | undefined>;
}

/** A build of the real server, and the program with the arguments that its launcher is run by. */
export interface ChromaBuild {
  readonly packageDirectory: string;
  readonly program: readonly string[];
}

/** Installs the Chroma server's npm package into the user's cache once; returns the package's directory. */
export async function ensureChroma(version = chromaVersion): Promise<string> {
  const directory = join(cacheDirectory(process.env), 'tars-demo', `chroma-${version}`);
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
    await execa('npm', ['install', '--prefix', directory, '--no-save', `${chromaPackage}@${version}`]);
  } catch (cause) {
    throw new TarsError('configuration', `Cannot install ${chromaPackage}@${version} with npm`, {
      hint: 'Check that npm reaches its registry, then run this again.',
      cause,
    });
  }
  return installed;
}

/** Starts a private Chroma server under `directory`: of version 1.0 where no build is given. */
export async function startChroma(
  directory: string,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
  pickPort: PickPort = freePort,
  build?: ChromaBuild,
): Promise<PrivateChroma> {
  const used = build ?? { packageDirectory: await ensureChroma(), program: [process.execPath] };
  const dataDir = join(directory, 'data');
  await mkdir(dataDir, { recursive: true });
  return await onFreePort(pickPort, async (port) => {
    const server = await prepareChroma(directory, dataDir, used, port, ctx);
    await server.start();
    return server;
  });
}

async function prepareChroma(
  directory: string,
  dataDir: string,
  { packageDirectory, program }: ChromaBuild,
  port: number,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<PrivateChroma> {
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
  const startCommand = [...program, launcher];
  const server: ServerProcess = { name: `Chroma on port ${port}`, port, pidFile, marks: [launcher] };
  const probe = async (signal: AbortSignal): Promise<void> => {
    const response = await fetch(`${url}/api/v2/heartbeat`, { signal });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
  };
  const stop = (): Promise<void> => endProcess(server, ctx.clock);
  return {
    host: '127.0.0.1',
    port,
    url,
    dataDir,
    pidFile,
    startCommand,
    stopCommand: ['sh', '-c', `kill "$(cat '${pidFile}')"`],
    pid: () => runningPid(server),
    start: () =>
      launchServer(server, { argv: startCommand, logFile: join(directory, 'server.log'), probe }, ctx),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
