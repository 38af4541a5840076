import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { NewEntry, OpenVolume, StoreVolume, VolumeListing } from '../../ports/volume.ts';
import { attributesOf } from '../paths/file-bytes.ts';

/** A private directory in which something is staged. */
interface StagedDirectory {
  readonly directory: string;
  /** Of the volume, as it was when the directory was filled; undefined when there was none. */
  readonly listing: VolumeListing | undefined;
}

/**
 * Sends `folder` of a private directory to the volume, owned like the volume's own directory, and looks whether all of
 * it has arrived. What was sent goes again when it has not.
 * @throws TarsError `restore-failed` when something is missing or different there
 */
export async function sendStaged(
  volume: StoreVolume,
  { directory, listing }: StagedDirectory,
  folder: string,
  ctx: OperationContext,
): Promise<void> {
  await using open = await volume.open('write', ctx);
  const task = ctx.progress.start(`sending to ${volume.label}`);
  let outcome: 'ok' | 'failed' = 'failed';
  try {
    const root = listing ?? (await createdListing(open, ctx.signal));
    await open.remove(folder, ctx.signal);
    const sent = new Map<string, SentFile>();
    const entries = stagedEntries(directory, folder, root, sent, task.advance.bind(task));
    await open.write(entries, ctx.signal);
    await requireArrived(sent, open, folder, volume.label, ctx.signal);
    outcome = 'ok';
  } catch (error) {
    // Whatever interrupted it: a half-sent copy is only in the way.
    await open.remove(folder, new AbortController().signal).catch(() => undefined);
    throw error;
  } finally {
    task.finish(outcome);
  }
}

async function createdListing(open: OpenVolume, signal: AbortSignal): Promise<VolumeListing> {
  // Opened for writing, a directory that was missing is there.
  const listing = await open.list(signal);
  if (listing === undefined) throw new TarsError('internal', 'A directory was not created');
  return listing;
}

async function* stagedEntries(
  directory: string,
  path: string,
  root: VolumeListing,
  sent: Map<string, SentFile>,
  onBytes: (bytes: number) => void,
  inodes = new Map<bigint, string>(),
): AsyncGenerator<NewEntry> {
  const full = join(directory, path);
  const stats = await lstat(full, { bigint: true });
  const { uid, gid } = root.root.attributes;
  const attributes = { ...attributesOf(stats), uid, gid };
  if (stats.isDirectory()) {
    yield { path, type: 'directory', attributes, sizeBytes: 0 };
    for (const name of (await readdir(full)).sort())
      yield* stagedEntries(directory, `${path}/${name}`, root, sent, onBytes, inodes);
    return;
  }
  if (stats.isSymbolicLink()) {
    yield { path, type: 'symlink', attributes, sizeBytes: 0, linkTarget: await readlink(full) };
    return;
  }
  const sizeBytes = Number(stats.size);
  const first = inodes.get(stats.ino);
  const original = first === undefined ? undefined : sent.get(first);
  if (first !== undefined && original !== undefined) {
    sent.set(path, original);
    yield { path, type: 'link', attributes, sizeBytes: 0, linkTarget: first };
    return;
  }
  if (stats.nlink > 1n) inodes.set(stats.ino, path);
  const hash = createHash('sha256');
  const body = (async function* () {
    for await (const chunk of createReadStream(full, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      onBytes(chunk.length);
      hash.update(chunk);
      yield chunk;
    }
  })();
  yield { path, type: 'file', attributes, sizeBytes, body };
  sent.set(path, { sizeBytes, sha256: hash.digest('hex') });
}

/** What was sent of a file. */
interface SentFile {
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** Compares what has arrived with what was sent, by content where the store's image can tell it. */
async function requireArrived(
  sent: ReadonlyMap<string, SentFile>,
  open: OpenVolume,
  folder: string,
  label: string,
  signal: AbortSignal,
): Promise<void> {
  const entries = (await open.list(signal))?.entries;
  const hashes = await open.hashes(folder, signal);
  for (const [path, { sizeBytes, sha256 }] of sent) {
    const whole = entries?.get(path)?.identity.sizeBytes === sizeBytes;
    if (whole && (hashes === undefined || hashes.get(path) === sha256)) continue;
    throw new TarsError('restore-failed', `${path} did not arrive completely in ${label}`, {
      hint: 'Check the free space on the file system of the Engine, then run the restore again.',
    });
  }
}
