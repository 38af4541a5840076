/** A server by product and version. */
export interface ServerVersion {
  readonly product: 'redis' | 'valkey';
  /** Such as `7.0.15`. */
  readonly version: string;
}

/** An RDB file's first nine bytes. */
export interface RdbFormat {
  readonly magic: 'REDIS' | 'VALKEY';
  readonly version: number;
}

/** First Redis release, as major * 100 + minor, that loads an RDB version (`RDB_VERSION` in `src/rdb.h`). */
const redisReleases: readonly (readonly [release: number, rdbVersion: number])[] = [
  [704, 12],
  [702, 11],
  [700, 10],
  [500, 9],
  [400, 8],
];
/** Releases after this one may know more than this build does; they refuse by themselves what they cannot load. */
const lastKnownRedisRelease = 802;
/** Versions that Valkey leaves to others (`RDB_FOREIGN_VERSION_MAX`). */
const lastRedisRdbVersion = 79;
const valkeyRdbVersion = 80;
/** The last version common to both; Valkey refuses what Redis wrote afterwards (`rdb-version-check strict`). */
const lastSharedRdbVersion = 11;

function releaseOf(version: string): number {
  const [major, minor] = version.split('.').map(Number);
  return (major ?? 0) * 100 + (minor ?? 0);
}

/** True when that server loads files of that format. */
export function canLoad(server: ServerVersion, rdb: RdbFormat): boolean {
  const release = releaseOf(server.version);
  if (server.product === 'valkey') {
    if (rdb.magic === 'VALKEY') return release >= 900 && rdb.version >= valkeyRdbVersion;
    return rdb.version <= lastSharedRdbVersion;
  }
  if (rdb.magic === 'VALKEY') return false;
  if (release > lastKnownRedisRelease) return rdb.version <= lastRedisRdbVersion;
  return rdb.version <= (redisReleases.find(([from]) => release >= from)?.[1] ?? 0);
}

/** True when the append-only file is a directory with a manifest, as since Redis 7.0. */
export const splitsAppendOnly = (server: ServerVersion): boolean => releaseOf(server.version) >= 700;

/** What `redis-server --version` or `valkey-server --version` printed. */
export function parseVersionLine(line: string): ServerVersion | undefined {
  const match = /^(Redis|Valkey) server v=(\d+\.\d+\.\d+)/.exec(line);
  if (match?.[2] === undefined) return undefined;
  return { product: match[1] === 'Valkey' ? 'valkey' : 'redis', version: match[2] };
}
