import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import { shortId } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { StorageFileType } from '../../ports/storage.ts';
import { isUnreadable, notInterrupted, type Findings } from './findings.ts';
import { decodeConfig } from '../format/config-file.ts';
import { decodeSnapshot, type SnapshotFile } from '../format/snapshot-file.ts';
import { describeLock, lockState } from '../lock/lock-record.ts';
import { loadLock } from '../lock/lock-file.ts';
import { sha256Hex, type OpenedRepository } from '../open.ts';

/** A key file's shape (restic `doc/design.rst`, "Keys, Encryption and MAC"); its own secret is not ours to open. */
const keySchema = z.object({
  kdf: z.literal('scrypt'),
  N: z.number().int().positive(),
  r: z.number().int().positive(),
  p: z.number().int().positive(),
  salt: z.base64().min(1),
  data: z.base64().min(1),
});

/** The configuration as it is stored now must be the one the repository was opened with. */
export async function checkConfig(
  repo: OpenedRepository,
  findings: Findings,
  ctx: OperationContext,
): Promise<void> {
  await findings.examine('config', 'config-damaged', async () => {
    const sealed = await repo.storage.load({ type: 'config', name: '' }, undefined, ctx.signal);
    const config = decodeConfig(repo.crypto.open(sealed, 'the repository configuration'));
    if (config.id !== repo.id || config.chunkerPolynomial !== repo.config.chunkerPolynomial) {
      throw new CorruptionError('The configuration is that of another repository');
    }
  });
}

/** Key files are stored in the clear; their names are the hashes of their content, as of all files. */
export async function checkKeys(
  repo: OpenedRepository,
  findings: Findings,
  ctx: OperationContext,
): Promise<void> {
  const names = await namesOf(repo, 'keys', findings, ctx);
  for (const name of names) {
    await findings.examine(`keys/${name}`, 'key-damaged', async () => {
      const content = await repo.storage.load({ type: 'keys', name }, undefined, ctx.signal);
      if (sha256Hex(content) !== name) {
        throw new CorruptionError(
          `The content of key ${shortId(name)} does not match its name: its password may no longer open the repository`,
        );
      }
      if (!isKey(content)) throw new CorruptionError(`Key ${shortId(name)} is not valid`);
    });
  }
  if (names.length === 0) {
    findings.add('error', 'keys', 'key-missing', 'There is no key file: no password opens the repository');
  }
}

function isKey(content: Uint8Array): boolean {
  try {
    return keySchema.safeParse(JSON.parse(Buffer.from(content).toString('utf8'))).success;
  } catch {
    return false;
  }
}

/**
 * A lock that vanishes meanwhile was released; one that cannot be read keeps everybody out. Returns whether all
 * could be read.
 */
export async function checkLocks(
  repo: OpenedRepository,
  findings: Findings,
  ctx: OperationContext,
): Promise<boolean> {
  let readable = true;
  for (const name of await namesOf(repo, 'locks', findings, ctx)) {
    const subject = `locks/${name}`;
    try {
      const lock = await loadLock(repo, name, ctx.signal);
      const now = ctx.clock.now();
      // One whose process has ended is removed when the check takes its own.
      if (lockState(lock, now) !== 'stale') continue;
      const who = describeLock(lock, now);
      findings.add('warning', subject, 'lock-stale', `The lock of ${who} is stale; "tars unlock" removes it`);
    } catch (error) {
      const known = notInterrupted(error, `Cannot read lock ${shortId(name)}`);
      if (known.code === 'storage-not-found') continue;
      readable = false;
      findings.add(
        'error',
        subject,
        isUnreadable(known) ? 'lock-unreadable' : 'lock-damaged',
        `${known.message}; "tars unlock --all" removes it when nothing else uses the repository`,
      );
    }
  }
  return readable;
}

/** The snapshot files that can be read, by name. */
export async function checkSnapshotFiles(
  repo: OpenedRepository,
  names: readonly string[],
  findings: Findings,
  ctx: OperationContext,
): Promise<Map<string, SnapshotFile>> {
  const snapshots = new Map<string, SnapshotFile>();
  for (const name of names) {
    const snapshot = await findings.examine(`snapshots/${name}`, 'snapshot-damaged', async () =>
      decodeSnapshot(await repo.loadUnpacked('snapshots', name, ctx.signal), name),
    );
    if (snapshot !== undefined) snapshots.set(name, snapshot);
  }
  return snapshots;
}

/** Names of all files of a type; a listing that fails is a finding. */
export async function namesOf(
  repo: OpenedRepository,
  type: StorageFileType,
  findings: Findings,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const found = await findings.examine(type, 'listing-failed', () =>
    Array.fromAsync(repo.storage.list(type, ctx.signal), ({ name }) => name),
  );
  return found ?? [];
}
