import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { OperationContext } from '../ports/context.ts';
import type { PrivateServer } from './servers/common.ts';
import { startChroma, type PrivateChroma } from './servers/chroma.ts';
import { startPostgres, type PrivatePostgres } from './servers/postgres.ts';
import { startRedis, type PrivateRedis } from './servers/redis.ts';
import { endProcess } from './servers/server-process.ts';

export const demoDatabase = 'tars_home';

/** The demo's private stack: own directories, own ports, nothing shared with the machine's services. */
export interface DemoStack extends AsyncDisposable {
  readonly root: string;
  readonly settingsPath: string;
  readonly repositoryPath: string;
  readonly configFile: string;
  readonly modelStore: string;
  readonly ledgerFile: string;
  readonly postgres: PrivatePostgres;
  readonly redis: PrivateRedis;
  readonly chroma: PrivateChroma;
  /** Stops every store and deletes its data, the models and the configuration file. */
  destroy(): Promise<void>;
  /** What a new machine has: an empty PostgreSQL cluster that runs, and nothing else. */
  replaceHardware(): Promise<void>;
}

export interface Passwords {
  readonly postgres: string;
  readonly redis: string;
}

export interface DemoChoices {
  /** Default: random ones. */
  readonly passwords?: Passwords;
  /** Size of the model's weights; default: 24 MiB. */
  readonly modelBytes?: number;
}

const defaultModelBytes = 24 << 20;

const newPassword = (): string => randomBytes(12).toString('base64url');

/** Starts the stack under `root` and writes the `tars.yaml` an operator would have written. */
export async function startDemoStack(
  root: string,
  ctx: OperationContext,
  {
    passwords = { postgres: newPassword(), redis: newPassword() },
    modelBytes = defaultModelBytes,
  }: DemoChoices = {},
): Promise<DemoStack> {
  await chmod(root, 0o755);
  const servers = await startServers(root, passwords, ctx);
  try {
    const paths = await writeFiles(root, { passwords, modelBytes }, servers);
    return demoStack(root, paths, servers, passwords, ctx);
  } catch (error) {
    await stopAll(allOf(servers));
    throw error;
  }
}

interface Servers {
  readonly postgres: PrivatePostgres;
  readonly redis: PrivateRedis;
  readonly chroma: PrivateChroma;
}

const allOf = ({ postgres, redis, chroma }: Servers): readonly PrivateServer[] => [postgres, redis, chroma];

async function startServers(root: string, passwords: Passwords, ctx: OperationContext): Promise<Servers> {
  const started: PrivateServer[] = [];
  const keep = <Server extends PrivateServer>(server: Server): Server => {
    started.push(server);
    return server;
  };
  try {
    return {
      postgres: keep(await startPostgres(join(root, 'postgres'), passwords.postgres)),
      redis: keep(
        await startRedis(join(root, 'redis'), ctx, { appendOnly: true, password: passwords.redis }),
      ),
      chroma: keep(await startChroma(join(root, 'chroma'), ctx)),
    };
  } catch (error) {
    await stopAll(started);
    throw error;
  }
}

/** Tries to stop each of them, whatever becomes of the others. @throws what the first of them said */
async function stopAll(servers: readonly Pick<PrivateServer, 'stop'>[]): Promise<void> {
  const outcomes = await Promise.allSettled(servers.map((server) => server.stop()));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

type Paths = Pick<
  DemoStack,
  'settingsPath' | 'repositoryPath' | 'configFile' | 'modelStore' | 'ledgerFile'
> & { readonly writerPlan: string };

async function writeFiles(
  root: string,
  { passwords, modelBytes }: Required<DemoChoices>,
  servers: Servers,
): Promise<Paths> {
  const { postgres, redis, chroma } = servers;
  const paths = {
    settingsPath: join(root, 'tars.yaml'),
    repositoryPath: join(root, 'repository'),
    configFile: join(root, 'tars-home.env'),
    modelStore: join(root, 'ollama', 'models'),
    ledgerFile: join(root, 'ledger.txt'),
    writerPlan: join(root, 'writer.json'),
  };
  const { host, port, user } = postgres;
  const connection = {
    postgres: { host, port, user, password: passwords.postgres, database: demoDatabase },
    redis: { host: redis.host, port: redis.port, password: passwords.redis },
    chromaUrl: chroma.url,
    ledgerFile: paths.ledgerFile,
  };
  const secret = { mode: 0o600 };
  await writeFile(paths.writerPlan, JSON.stringify(connection), secret);
  await writeFile(join(root, 'postgres-password'), passwords.postgres, secret);
  await writeFile(join(root, 'redis-password'), passwords.redis, secret);
  await writeConfiguration(paths.configFile, passwords, chroma.url);
  await writeModelStore(paths.modelStore, modelBytes);
  await writeFile(paths.settingsPath, stringify(settingsFor({ root, ...paths, ...servers })), secret);
  return paths;
}

function demoStack(
  root: string,
  { writerPlan, ...paths }: Paths,
  servers: Servers,
  passwords: Passwords,
  { clock }: OperationContext,
): DemoStack {
  const { postgres, redis, chroma } = servers;
  const application = { name: 'The application', pidFile: pidFileOfWriter(root), marks: [writerPlan] };
  return {
    root,
    ...paths,
    ...servers,
    async destroy() {
      await stopAll(allOf(servers));
      const lost = [postgres.dataDir, redis.dataDir, chroma.dataDir, paths.modelStore, paths.configFile];
      await Promise.all(lost.map((path) => rm(path, { recursive: true, force: true })));
    },
    async replaceHardware() {
      await startPostgres(join(root, 'postgres'), passwords.postgres, () => Promise.resolve(postgres.port));
      await mkdir(redis.dataDir, { recursive: true, mode: 0o700 });
    },
    async [Symbol.asyncDispose]() {
      const writer = { stop: () => endProcess(application, clock) };
      await stopAll([writer, ...allOf(servers)]);
    },
  };
}

const pidFileOfWriter = (root: string): string => join(root, 'backend.pid');

async function writeConfiguration(path: string, passwords: Passwords, chromaUrl: string): Promise<void> {
  const lines = [
    '# T.A.R.S. settings',
    'LOG_LEVEL=info',
    'MAX_TOKENS=4096',
    `CHROMA_URL=${chromaUrl}`,
    `POSTGRES_PASSWORD=${passwords.postgres}`,
    `REDIS_PASSWORD=${passwords.redis}`,
    `JWT_SECRET=${randomBytes(24).toString('base64')}`,
  ];
  await writeFile(path, `${lines.join('\n')}\n`, { mode: 0o600 });
}

/** A small locally created model in Ollama's on-disk layout: a manifest and two blobs named by their digests. */
async function writeModelStore(path: string, weightBytes: number): Promise<void> {
  const blobs = join(path, 'blobs');
  const tagFolder = join(path, 'manifests', 'registry.ollama.ai', 'library', 'tars-mini');
  await mkdir(blobs, { recursive: true });
  await mkdir(tagFolder, { recursive: true });
  const store = async (content: Uint8Array, mediaType: string): Promise<object> => {
    const digest = createHash('sha256').update(content).digest('hex');
    await writeFile(join(blobs, `sha256-${digest}`), content);
    return { mediaType, digest: `sha256:${digest}`, size: content.byteLength };
  };
  const config = await store(
    Buffer.from(JSON.stringify({ model_format: 'gguf', model_family: 'tars' })),
    'application/vnd.docker.container.image.v1+json',
  );
  const weights = Buffer.concat([Buffer.from('GGUF'), randomBytes(weightBytes)]);
  const layer = await store(weights, 'application/vnd.ollama.image.model');
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config,
    layers: [layer],
  };
  await writeFile(join(tagFolder, 'latest'), JSON.stringify(manifest));
}

function settingsFor(stack: Paths & Servers & { readonly root: string }): object {
  const { root, postgres, redis, chroma } = stack;
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  const writer = new URL(`./writer-main${extension}`, import.meta.url).pathname;
  return {
    version: 1,
    stack: 'tars-demo',
    repository: { path: stack.repositoryPath, password_file: join(root, 'tars-recovery.key') },
    scratch_dir: root,
    state_dir: join(root, 'state'),
    // A machine that is slow or busy is shown a cut, too.
    pause_max_ms: 30_000,
    components: {
      postgres: {
        host: '127.0.0.1',
        port: postgres.port,
        user: postgres.user,
        password_file: join(root, 'postgres-password'),
        databases: [demoDatabase],
        service: 'postgres',
      },
      redis: {
        host: '127.0.0.1',
        port: redis.port,
        password_file: join(root, 'redis-password'),
        data_dir: redis.dataDir,
        service: 'redis',
      },
      chroma: { url: chroma.url, path: chroma.dataDir, service: 'chroma' },
      ollama: { path: stack.modelStore, models: 'all' },
      config: { files: [stack.configFile] },
    },
    services: {
      postgres: { start: postgres.startCommand, stop: postgres.stopCommand, pid_file: postgres.pidFile },
      redis: { start: redis.startCommand, stop: redis.stopCommand, pid_file: redis.pidFile },
      chroma: { command: chroma.startCommand, pid_file: chroma.pidFile, log_file: join(root, 'chroma.log') },
      backend: {
        command: [process.execPath, writer, stack.writerPlan],
        pid_file: pidFileOfWriter(root),
        log_file: join(root, 'backend.log'),
        depends_on: ['postgres', 'redis', 'chroma'],
        writer: true,
      },
    },
  };
}
