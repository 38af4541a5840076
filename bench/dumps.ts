import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { demoDatabase, type DemoStack } from '../src/demo/stack.ts';
import { measureScript, measureWall, total, type Measurement } from './measure.ts';

/** What a careful shell script does around a backup program that knows files only. */
export class Dumps {
  /** Names below the stack's root that a backup program has to take. */
  readonly paths = ['staging', 'ollama', 'tars-home.env'] as const;
  readonly #stack: DemoStack;
  readonly #signal: AbortSignal;

  constructor(stack: DemoStack, signal: AbortSignal) {
    this.#stack = stack;
    this.#signal = signal;
  }

  get root(): string {
    return this.#stack.root;
  }

  /**
   * Dumps PostgreSQL without compression (or nothing would be deduplicated), saves and copies Redis, copies Chroma.
   * Models and configuration are taken from where they are.
   */
  async dump(): Promise<Measurement> {
    const { redis, chroma } = this.#stack;
    const staging = join(this.root, 'staging');
    await mkdir(staging, { recursive: true, mode: 0o700 });
    return this.#measure(`
      ${this.#postgres('pg_dumpall')} --globals-only --file=${staging}/globals.sql
      ${this.#postgres('pg_dump')} -Fc -Z0 --file=${staging}/postgres.dump ${demoDatabase}
      ${this.#redisCli} bgsave
      until ${this.#redisCli} info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.05; done
      cp ${redis.dataDir}/dump.rdb ${staging}/redis.rdb
      rm -rf ${staging}/chroma
      cp -a ${chroma.dataDir} ${staging}/chroma
    `);
  }

  /** The dumps have served; the next contestant makes its own. */
  async discard(): Promise<void> {
    await rm(join(this.root, 'staging'), { recursive: true, force: true });
  }

  /** Puts what was extracted into `from` in the place of what is live, and starts the stores on it. */
  async putInPlace(from: string): Promise<Measurement> {
    const { redis, chroma } = this.#stack;
    return total([
      await this.#restorePostgres(join(from, 'staging/postgres.dump')),
      await measureWall(() => redis.stop()),
      await this.#replaceRedis(join(from, 'staging/redis.rdb')),
      await measureWall(() => redis.start()),
      await measureWall(() => chroma.stop()),
      await this.#measure(`rm -rf ${chroma.dataDir}; mv ${from}/staging/chroma ${chroma.dataDir}`),
      await measureWall(() => chroma.start()),
      await this.#measure(`
        rm -rf ${this.#stack.modelStore}
        mv ${from}/ollama/models ${this.#stack.modelStore}
        cp ${from}/tars-home.env ${this.#stack.configFile}`),
    ]);
  }

  #restorePostgres(dump: string): Promise<Measurement> {
    const restored = `${demoDatabase}_restored`;
    const psql = this.#postgres('psql -q -v ON_ERROR_STOP=1');
    return this.#measure(`
      ${this.#postgres('createdb')} ${restored}
      ${this.#postgres('pg_restore')} --exit-on-error -j 2 -d ${restored} ${dump}
      ${psql} -d ${restored} -c ANALYZE
      ${psql} -d postgres -c 'DROP DATABASE ${demoDatabase}' -c 'ALTER DATABASE ${restored} RENAME TO ${demoDatabase}'
    `);
  }

  /** With `appendonly yes` Redis reads its append-only directory, and ignores dump.rdb. */
  #replaceRedis(rdb: string): Promise<Measurement> {
    const { dataDir } = this.#stack.redis;
    const base = 'appendonly.aof.1.base.rdb';
    return this.#measure(`
      rm -rf ${dataDir}/appendonlydir ${dataDir}/dump.rdb
      mkdir ${dataDir}/appendonlydir
      cp ${rdb} ${dataDir}/appendonlydir/${base}
      echo 'file ${base} seq 1 type b' > ${dataDir}/appendonlydir/appendonly.aof.manifest
    `);
  }

  #postgres(program: string): string {
    const { binDir, host, port, user } = this.#stack.postgres;
    return `${binDir}/${program} -h ${host} -p ${port} -U ${user}`;
  }

  get #redisCli(): string {
    return `redis-cli -p ${this.#stack.redis.port}`;
  }

  #measure(script: string): Promise<Measurement> {
    const { postgres, redis } = this.#stack;
    const env = { PGPASSWORD: postgres.password, REDISCLI_AUTH: redis.password ?? '' };
    return measureScript(script, { env, signal: this.#signal });
  }
}
