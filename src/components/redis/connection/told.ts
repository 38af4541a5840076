import { open, readdir, readFile, realpath } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { isSystemError } from '../../../model/errors.ts';
import { redisSettings } from '../../../model/redis-words.ts';
import { RedisReplyError, type RedisConnection } from './connection.ts';
import { defaultPersistence, type Persistence } from '../facts.ts';
import type { ServerInfo } from './server.ts';

/** What a server was configured with: as it says, or as the file says that it was started with. */
export interface ToldSettings {
  /** `nobody`: its CONFIG is renamed or refused, and its file cannot be read from here. */
  readonly by: 'server' | 'file' | 'nobody';
  get(name: string): string | undefined;
}

const names = ['dbfilename', 'appenddirname', 'appendfilename', 'aclfile'];

/** Asks the server, or else looks into its redis.conf, where that is of a server that keeps its data in `dataDir`. */
export async function readSettings(
  connection: RedisConnection,
  info: ServerInfo,
  dataDir: string | undefined,
  signal: AbortSignal,
): Promise<ToldSettings> {
  const told = new Map<string, string>();
  for (const name of names) {
    const value = await setting(connection, name, signal);
    if (value !== undefined) told.set(name, value);
  }
  if (told.has('dbfilename')) return { by: 'server', get: (name) => told.get(name) };
  const file = await readConfiguration(info.text('config_file'), dataDir);
  if (file === undefined) return { by: 'nobody', get: () => undefined };
  return { by: 'file', get: (name) => file.get(name) };
}

/** One setting, or undefined when it does not exist or we may not ask. */
export async function setting(
  connection: RedisConnection,
  name: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const reply = await connection.command(['CONFIG', 'GET', name], signal);
    const value = Array.isArray(reply) ? (reply as readonly unknown[])[1] : undefined;
    return typeof value === 'string' ? value : undefined;
  } catch (error) {
    if (error instanceof RedisReplyError) return undefined;
    throw error;
  }
}

/** Of a server in a container, a file of the same name here may be another one's: its `dir` tells. */
async function readConfiguration(
  path: string | undefined,
  dataDir: string | undefined,
): Promise<ReadonlyMap<string, string> | undefined> {
  if (path === undefined || dataDir === undefined || !isAbsolute(path)) return undefined;
  try {
    const settings = redisSettings(await readFile(path, 'utf8'));
    const dir = settings.get('dir') ?? '';
    return isAbsolute(dir) && (await realpath(dir)) === (await realpath(dataDir)) ? settings : undefined;
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}

/** How the server keeps its data; defaults where nobody says. */
export function persistenceOf(told: ToldSettings, info: ServerInfo): Persistence {
  return {
    appendOnly: info.flag('aof_enabled'),
    dbFilename: told.get('dbfilename') ?? defaultPersistence.dbFilename,
    appendDirName: told.get('appenddirname') ?? defaultPersistence.appendDirName,
    appendFilename: told.get('appendfilename') ?? defaultPersistence.appendFilename,
  };
}

/**
 * The name of the only RDB in a data directory, as far as a server has saved there; undefined for none and for several.
 */
export async function onlyRdbIn(dataDir: string): Promise<string | undefined> {
  const found: string[] = [];
  for (const entry of await readdir(dataDir, { withFileTypes: true }).catch(() => []))
    if (entry.isFile() && !entry.name.startsWith('temp-') && (await isRdb(join(dataDir, entry.name))))
      found.push(entry.name);
  return found.length === 1 ? found[0] : undefined;
}

async function isRdb(path: string): Promise<boolean> {
  await using file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return false;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(9), 0, 9, 0);
  return /^(REDIS\d{4}|VALKEY\d{3})$/.test(buffer.toString('latin1', 0, bytesRead));
}
