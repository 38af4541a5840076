import { startProgram } from '../../disk/start-program.ts';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { holdsNothing } from '../../disk/holds-nothing.ts';
import { formatBytes } from '../../model/bytes.ts';
import { isThere, statIfThere } from '../../disk/is-there.ts';
import { RestoreRefusedError, ServiceUnavailableError, toTarsError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Decision } from '../restore/single-use.ts';
import { RedisConnection } from './connection/connection.ts';
import { artifactPath, factsOf, type Facts, type Persistence } from './facts.ts';
import type { RedisOptions } from './connection/options.ts';
import { explainReply, ServerInfo } from './connection/server.ts';
import { onlyRdbIn, persistenceOf, readSettings, setting } from './connection/told.ts';
import {
  canLoad,
  parseVersionLine,
  splitsAppendOnly,
  type RdbFormat,
  type ServerVersion,
} from './connection/versions.ts';

/** What {@link planRestore} decided, for the stage. */
export interface RestoreDetails {
  readonly dataDir: string;
  readonly restoreId: string;
  readonly persistence: Persistence;
  readonly artifact: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly facts: Facts;
}

/** What is known of the server we restore into. */
interface TargetState {
  readonly running: boolean;
  readonly server: ServerVersion | undefined;
  readonly persistence: Persistence | undefined;
  /** The master it follows, and its working directory, where it tells. */
  readonly replicaOf: string | undefined;
  readonly directory: string | undefined;
}

/**
 * Plans the offline restore: the server stopped, its files exchanged.
 * @throws RestoreRefusedError when its directory is unknown or the server cannot load the RDB
 */
export async function planRestore(
  options: RedisOptions,
  from: ComponentManifest,
  { restoreId }: RestoreOptions,
  ctx: OperationContext,
): Promise<Decision<RestoreDetails>> {
  const facts = factsOf(from);
  const artifact = from.artifacts.find(({ path }) => path === artifactPath(from.name));
  if (artifact === undefined)
    throw new RestoreRefusedError(`The snapshot has no ${artifactPath(from.name)} for ${from.name}`);
  const { dataDir, name } = options;
  if (dataDir === undefined) {
    throw new RestoreRefusedError(`Cannot restore ${name}: its data directory is not configured`, {
      hint: `Set components.${name}.data_dir in tars.yaml to the server's dir (redis-cli CONFIG GET dir).`,
    });
  }
  const target = await targetState(options, ctx);
  refuseUnstoppable(options, target);
  refuseReplica(name, target);
  const assumed = target.persistence ?? (await asFound(facts.persistence, dataDir));
  const persistence = await withAppendOnlyDirectory(assumed, dataDir);
  refuseUnnameable(name, persistence);
  const unseen = target.persistence === undefined ? [unseenWarning(name, persistence)] : [];
  unseen.push(...(await versionWarnings(name, facts, target, join(dataDir, persistence.dbFilename), ctx)));
  // Of a server that has not run yet, nothing else can be known: that is no reason to warn.
  const isNew = !target.running && (await holdsNothing(dataDir));
  const unverified = facts.unverified === undefined ? [] : [`${name} is unverified: ${facts.unverified}`];
  const warnings = [...unverified, ...(isNew ? [] : unseen), ...(await placeWarnings(name, dataDir, target))];
  const { users } = facts;
  const besides =
    users === undefined
      ? []
      : [
          `Keep the users of the server. The users of the snapshot are in ${users.artifact}, for ${users.file}`,
        ];
  const plan: RestorePlan = {
    component: from.name,
    kind: 'redis',
    steps: [
      ...stepsOf(dataDir, restoreId, persistence, artifact.sizeBytes),
      ...besides,
      ...(isNew ? unseen.map((text) => `${dataDir} is empty. ${text}`) : []),
    ],
    warnings,
    artifacts: [artifact.path],
    requires: { stopped: options.service === undefined ? [] : [options.service], running: [] },
    space: [{ path: dataDir, sizeBytes: artifact.sizeBytes }],
  };
  const details = {
    ...{ dataDir, restoreId, persistence, facts },
    artifact: artifact.path,
    sizeBytes: artifact.sizeBytes,
    sha256: artifact.sha256,
  };
  return { plan, details };
}

/** True when the fresh append-only directory has to be there: for certain, or for all we know. */
export const stagesAppendOnly = (persistence: Persistence): boolean => persistence.appendOnly !== false;

function stepsOf(dataDir: string, restoreId: string, persistence: Persistence, sizeBytes: number): string[] {
  const names = namesOf(persistence).map((name) => join(dataDir, name));
  return [
    `Stage the RDB (${formatBytes(sizeBytes)}) in ${join(dataDir, stagedName(restoreId))}`,
    `Move ${names.join(' and ')} to ${join(dataDir, previousName(restoreId))} and the staged data into place`,
    ...(stagesAppendOnly(persistence)
      ? [`Start from a fresh ${persistence.appendDirName}: with appendonly yes Redis ignores the RDB`]
      : []),
  ];
}

/** Entries of the data directory that a restore replaces. */
export const namesOf = (persistence: Persistence): string[] => [
  persistence.dbFilename,
  ...(stagesAppendOnly(persistence) ? [persistence.appendDirName] : []),
];

/** The folder of the restored files in the data directory, until they are live. */
export const stagedName = (restoreId: string): string => `.tars-new-${restoreId}`;
/** The folder there of what was live before, until it is discarded. */
export const previousName = (restoreId: string): string => `.tars-prev-${restoreId}`;

function unseenWarning(name: string, persistence: Persistence): string {
  const appendOnly = persistence.appendOnly === undefined ? 'unknown' : persistence.appendOnly ? 'yes' : 'no';
  return `${name} hides its settings now; the settings at the capture are used (appendonly ${appendOnly}, ${persistence.dbFilename}, ${persistence.appendDirName})`;
}

function refuseUnstoppable(options: RedisOptions, target: TargetState): void {
  if (!target.running || options.service !== undefined) return;
  throw new RestoreRefusedError(
    `Cannot restore ${options.name}: it runs, and tars does not know its service`,
    {
      hint: `Set components.${options.name}.service in tars.yaml, or stop it yourself first.`,
    },
  );
}

/** A reply that is not UTF-8 is read with U+FFFD in it: files of another name would be written. */
function refuseUnnameable(name: string, persistence: Persistence): void {
  const { dbFilename, appendDirName, appendFilename } = persistence;
  const bad = Object.entries({
    dbfilename: dbFilename,
    appenddirname: appendDirName,
    appendfilename: appendFilename,
  });
  for (const [setting, value] of bad) {
    if (!value.includes('\ufffd')) continue;
    throw new RestoreRefusedError(
      `Cannot restore ${name}: its ${setting} is not encoded in UTF-8 (${value})`,
      {
        hint: `Give ${setting} another name in redis.conf, restart the server, then run restore again.`,
      },
    );
  }
}

function refuseReplica(name: string, { replicaOf }: TargetState): void {
  if (replicaOf === undefined) return;
  throw new RestoreRefusedError(
    `Cannot restore ${name}: it is a replica, and its master ${replicaOf} would replace the restored data`,
    { hint: 'Restore into the master, or make this server one first: REPLICAOF NO ONE.' },
  );
}

/** Not refused: the directory of a server in a container has another name here, or another one has its name. */
async function placeWarnings(name: string, dataDir: string, { directory }: TargetState): Promise<string[]> {
  const [own, configured] = await Promise.all([identity(directory), identity(dataDir)]);
  if (own === undefined || configured === undefined || own === configured) return [];
  return [`${name} reports that it keeps its data in ${directory ?? ''}, not in ${dataDir}`];
}

async function identity(path: string | undefined): Promise<string | undefined> {
  const stats = path === undefined ? undefined : await statIfThere(path);
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}`;
}

/** A server that does not tell has saved under its own name, if it has saved at all. */
async function asFound(persistence: Persistence, dataDir: string): Promise<Persistence> {
  if (await isThere(join(dataDir, persistence.dbFilename))) return persistence;
  const found = await onlyRdbIn(dataDir);
  return found === undefined ? persistence : { ...persistence, dbFilename: found };
}

/** Where there is an append-only directory, the server may load it at its next start, whatever it says now. */
async function withAppendOnlyDirectory(persistence: Persistence, dataDir: string): Promise<Persistence> {
  if (persistence.appendOnly !== false) return persistence;
  const found = await identity(join(dataDir, persistence.appendDirName));
  return found === undefined ? persistence : { ...persistence, appendOnly: undefined };
}

/** Asks the server, when it runs. @throws TarsError `access-denied` when it runs and does not let us in */
async function targetState(options: RedisOptions, ctx: OperationContext): Promise<TargetState> {
  try {
    await using connection = await RedisConnection.open(options, ctx.signal);
    const info = await ServerInfo.read(connection, ctx.signal);
    const told = await readSettings(connection, info, options.dataDir, ctx.signal);
    const persistence = told.by === 'nobody' ? undefined : persistenceOf(told, info);
    const directory = await setting(connection, 'dir', ctx.signal);
    const replicaOf = info.role === 'slave' ? info.text('master_host') : undefined;
    return { running: true, server: info.server, persistence, replicaOf, directory };
  } catch (error) {
    if (error instanceof ServiceUnavailableError) {
      return {
        running: false,
        server: undefined,
        persistence: undefined,
        replicaOf: undefined,
        directory: undefined,
      };
    }
    throw explainReply(error, `Cannot plan the restore of ${options.name}`);
  }
}

/**
 * Refuses an RDB that the server cannot load. When it is down, the file it wrote itself tells what it can load at
 * least, and the program on the PATH is the next best witness.
 */
async function versionWarnings(
  name: string,
  { rdb }: Facts,
  { server }: TargetState,
  liveRdbPath: string,
  ctx: OperationContext,
): Promise<string[]> {
  if (server !== undefined) return refuseUnloadable(name, rdb, server);
  const own = await formatOf(liveRdbPath);
  if (own?.magic === rdb.magic && own.version >= rdb.version) return [];
  const installed = await installedServer(ctx.signal);
  if (installed !== undefined) return refuseUnloadable(name, rdb, installed);
  return [
    `The version of ${name} could not be determined: a server that does not know RDB version ${rdb.version} will not start with this data`,
  ];
}

function refuseUnloadable(name: string, rdb: RdbFormat, server: ServerVersion): string[] {
  if (!splitsAppendOnly(server)) {
    throw new RestoreRefusedError(
      `Cannot restore ${name}: ${server.product} ${server.version} keeps its append-only file in one piece`,
      { hint: 'Restore into Redis 7.0 or later, or into Valkey.' },
    );
  }
  if (canLoad(server, rdb)) return [];
  throw new RestoreRefusedError(
    `Cannot restore ${name}: ${server.product} ${server.version} does not load ${rdb.magic} RDB version ${rdb.version}`,
    { hint: 'Restore into the product that wrote it, in the same or a later version.' },
  );
}

async function formatOf(path: string): Promise<RdbFormat | undefined> {
  if (!(await isThere(path))) return undefined;
  const file = await open(path, 'r').catch((error: unknown) => {
    throw toTarsError(error, `Cannot read ${path}`);
  });
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(9), 0, 9, 0);
    const match = /^(REDIS|VALKEY)(\d+)$/.exec(buffer.toString('latin1', 0, bytesRead));
    if (match === null) return undefined;
    return { magic: match[1] === 'VALKEY' ? 'VALKEY' : 'REDIS', version: Number(match[2]) };
  } finally {
    await file.close();
  }
}

async function installedServer(signal: AbortSignal): Promise<ServerVersion | undefined> {
  for (const program of ['redis-server', 'valkey-server']) {
    const result = await startProgram(program, ['--version'], { reject: false, stdin: 'ignore' }, signal);
    const version = parseVersionLine(result.stdout);
    if (version !== undefined) return version;
  }
  return undefined;
}
