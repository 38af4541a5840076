import { chown, link, lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { createDurably } from '../../disk/durable-file.ts';
import {
  CorruptionError,
  hasErrno,
  isSystemError,
  RestoreRefusedError,
  toTarsError,
} from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { ArtifactSource, Bytes } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf, fileBytes, requireSpace } from '../paths/file-bytes.ts';
import { statIfThere } from '../../disk/is-there.ts';
import { openPrivateDirectory } from '../../disk/private-directory.ts';
import { removeTreeAt } from '../../disk/remove-tree.ts';
import { syncDirectory } from '../../disk/sync.ts';
import { compareContent, notCompared, readContent } from './content.ts';
import type { Facts, Owner } from './facts.ts';
import type { RedisOptions } from './connection/options.ts';
import { namesOf, previousName, stagedName, stagesAppendOnly, type RestoreDetails } from './plan.ts';
import { FileSwap, recordOf, wayBack } from './swap.ts';
import { redisWord } from '../../model/redis-words.ts';

const defaultOwner: Owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mode: 0o750 };

/**
 * Writes the files the server will start from into a hidden directory in its data directory: on the same file
 * system, so that renames suffice, and left alone by Redis.
 */
export async function stageOffline(
  options: RedisOptions,
  details: RestoreDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const stagedDir = join(details.dataDir, stagedName(details.restoreId));
  const owner = await ensureDataDir(details);
  try {
    await mkdir(stagedDir, { mode: 0o700 });
  } catch (cause) {
    throw refusal(details, cause);
  }
  try {
    await requireSpace(details.dataDir, details.sizeBytes, `the staged ${options.name}`);
    using own = await openPrivateDirectory(stagedDir);
    await writeFiles(details, own.path, owner, source, ctx);
  } catch (error) {
    await removeTreeAt(stagedDir);
    throw toTarsError(error, `Cannot stage ${options.name}`);
  }
  return new OfflineStaged(options, details, stagedDir);
}

/** Removes what a staging that was cut off left in the data directory. */
export async function removeStaged({ dataDir }: RedisOptions, restoreId: string): Promise<void> {
  if (dataDir === undefined) return;
  await removeTreeAt(join(dataDir, stagedName(restoreId)));
}

function refusal(details: RestoreDetails, cause: unknown): RestoreRefusedError {
  const { message, hint } = toTarsError(cause, `Cannot stage in ${details.dataDir}`);
  return new RestoreRefusedError(message, {
    hint: hasErrno(cause, 'EEXIST')
      ? 'Remove the data that an earlier restore left there.'
      : (hint ?? 'Check what is in the way.'),
    cause,
  });
}

/** The directory's owner and mode. One that is gone is created again as it was at capture. */
async function ensureDataDir({ dataDir, facts }: RestoreDetails): Promise<Owner> {
  const stats = await statIfThere(dataDir);
  if (stats !== undefined) return attributesOf(stats);
  const owner = facts.directory ?? defaultOwner;
  await mkdir(dataDir, { recursive: true, mode: owner.mode });
  await giveTo(dataDir, owner);
  return owner;
}

async function writeFiles(
  details: RestoreDetails,
  stagedDir: string,
  owner: Owner,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<void> {
  const { persistence, dataDir } = details;
  const rdb = join(stagedDir, persistence.dbFilename);
  const liveRdb = await statIfThere(join(dataDir, persistence.dbFilename));
  const fileOwner = liveRdb === undefined ? { ...owner, mode: 0o600 } : attributesOf(liveRdb);
  await writeOwned(rdb, fileOwner, source.open(details.artifact, ctx.signal));
  if (stagesAppendOnly(persistence)) {
    const directory = join(stagedDir, persistence.appendDirName);
    await mkdir(directory, { mode: owner.mode });
    await giveTo(directory, owner);
    // Redis reads both and replaces both whole, so that they can be one file.
    const base = `${persistence.appendFilename}.1.base.rdb`;
    await linkOrCopy(rdb, join(directory, base), fileOwner, ctx);
    const manifest = Buffer.from(`file ${redisWord(base)} seq 1 type b\n`);
    await writeOwned(join(directory, `${persistence.appendFilename}.manifest`), fileOwner, [manifest]);
    await syncDirectory(directory);
  }
  await syncDirectory(stagedDir);
  await syncDirectory(dataDir);
}

async function linkOrCopy(from: string, to: string, owner: Owner, ctx: OperationContext): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    await writeOwned(to, owner, fileBytes(from, ctx.signal));
  }
}

async function writeOwned(path: string, owner: Owner, bytes: Bytes | Iterable<Uint8Array>): Promise<void> {
  await createDurably(path, bytes, { finish: (file) => file.chmod(owner.mode), syncParent: false });
  await giveTo(path, owner);
}

async function giveTo(path: string, { uid, gid }: Owner): Promise<void> {
  const stats = await lstat(path);
  if (stats.uid === uid && stats.gid === gid) return;
  try {
    await chown(path, uid, gid);
  } catch (cause) {
    throw new RestoreRefusedError(`Cannot give ${path} to the owner of the data directory (${uid}:${gid})`, {
      hint: 'Run the restore as root or as the user Redis runs as.',
      cause,
    });
  }
}

class OfflineStaged implements Staged {
  readonly record: SwapRecord;
  readonly replaces: readonly string[];
  readonly #options: RedisOptions;
  readonly #details: RestoreDetails;
  readonly #stagedDir: string;
  readonly #swap: FileSwap;

  constructor(options: RedisOptions, details: RestoreDetails, stagedDir: string) {
    this.#options = options;
    this.#details = details;
    this.#stagedDir = stagedDir;
    const place = {
      dataDir: details.dataDir,
      stagedDir,
      previousDir: join(details.dataDir, previousName(details.restoreId)),
      names: namesOf(details.persistence),
    };
    this.replaces = place.names.map((name) => join(place.dataDir, name));
    this.record = recordOf(options.name, place, wayBack(place));
    this.#swap = new FileSwap(place);
  }

  async verify(ctx: OperationContext): Promise<readonly Finding[]> {
    const { persistence, facts, sha256 } = this.#details;
    const files = [join(this.#stagedDir, persistence.dbFilename)];
    if (stagesAppendOnly(persistence)) {
      const base = join(persistence.appendDirName, `${persistence.appendFilename}.1.base.rdb`);
      files.push(join(this.#stagedDir, base));
    }
    const findings: Finding[] = [];
    const seen = new Set<number>();
    for (const path of files) {
      const { ino } = await lstat(path);
      if (seen.has(ino)) continue;
      seen.add(ino);
      const open = (): Bytes => fileBytes(path, ctx.signal);
      findings.push(...(await compareFile(open, path, facts, sha256, this.#options.name)));
    }
    return findings;
  }

  swap(ctx: OperationContext): Promise<void> {
    return this.#swap.carryOut(this.#options, ctx);
  }

  discard(): Promise<void> {
    return this.#swap.discardStaged();
  }
}

/** What cannot be read must be what was captured, byte for byte. */
async function compareFile(
  open: () => Bytes,
  path: string,
  { content: expected, unverified = '' }: Facts,
  sha256: string,
  subject: string,
): Promise<readonly Finding[]> {
  if (expected !== undefined) {
    const { content } = await readContent(open, expected.writtenAtMs, path);
    if (content !== undefined) return compareContent(expected, content, undefined, subject);
  }
  const hash = createHash('sha256');
  for await (const piece of open()) hash.update(piece);
  if (hash.digest('hex') === sha256) return [notCompared(subject, unverified)];
  throw new CorruptionError(`${path} differs from what was captured: its SHA-256 does not match`);
}
