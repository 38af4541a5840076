import { CorruptionError, TarsError, toTarsError, type ErrorCode } from '../model/errors.ts';
import { shortId } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RepositoryKey } from '../ports/keys.ts';
import type { KeyMaterial } from './format/crypto.ts';
import { decodeKeyOrigin, openKeyFile } from './format/key-file.ts';
import { acquireLock } from './lock/lock.ts';
import { addKey, type OpenedRepository } from './open.ts';

const listHint = '`tars key list` shows the ids.';
const removalTimeoutMs = 60_000;
const passedOver: ReadonlySet<ErrorCode> = new Set(['corruption', 'storage-not-found']);

/** The oldest first. Takes no lock: a listing is a moment's view anyway. */
export async function listKeys(
  repo: OpenedRepository,
  ctx: OperationContext,
): Promise<readonly RepositoryKey[]> {
  const keys: RepositoryKey[] = [];
  for (const id of await keyNames(repo, ctx.signal)) {
    try {
      const content = await repo.storage.load({ type: 'keys', name: id }, undefined, ctx.signal);
      const { createdNs, username, hostname } = decodeKeyOrigin(content, id);
      const created = createdNs === undefined ? undefined : new Date(Number(createdNs / 1_000_000n));
      keys.push({ id, isCurrent: id === repo.keyName, created, username, hostname });
    } catch (error) {
      // It may have been removed since it was listed; a damaged one opens nothing, and the others do.
      if (!(error instanceof TarsError) || !passedOver.has(error.code)) throw error;
      if (error.code === 'corruption') ctx.log.warn(`Skipped a damaged key: ${error.message}`);
    }
  }
  return keys.sort((a, b) => (a.created?.getTime() ?? 0) - (b.created?.getTime() ?? 0));
}

/** Adds a key and proves that it opens the repository. Returns its id. */
export async function addProvenKey(
  repo: OpenedRepository,
  password: string,
  ctx: OperationContext,
): Promise<string> {
  await using lock = await acquireLock(repo, { exclusive: false }, ctx);
  return await addAndProve(repo, password, { ...ctx, signal: lock.signal });
}

/** @throws TarsError `key-not-found`; `key-refused` for the key in use and so for the last one */
export async function removeKey(
  repo: OpenedRepository,
  reference: string,
  ctx: OperationContext,
): Promise<string> {
  await using lock = await acquireLock(repo, { exclusive: true }, ctx);
  const names = await keyNames(repo, lock.signal);
  const id = resolveKey(names, reference);
  if (names.length === 1) {
    throw new TarsError(
      'key-refused',
      `Key ${shortId(id)} is the last one: without it, no one could open the repository`,
      {
        hint: 'To change its password: tars key passwd',
      },
    );
  }
  if (id === repo.keyName) {
    throw new TarsError('key-refused', `Key ${shortId(id)} is in use: it opened the repository just now`, {
      hint: 'To remove it, open the repository with another key: set TARS_PASSWORD_FILE to a file with the password of that key.',
    });
  }
  await lock.confirm();
  await repo.storage.remove({ type: 'keys', name: id }, lock.signal);
  return id;
}

/**
 * The new key is there and proved to work before the old one goes. What cuts that off leaves the old one alone, or says
 * that both open the repository.
 */
export async function changePassword(
  repo: OpenedRepository,
  password: string,
  ctx: OperationContext,
): Promise<{ readonly added: string; readonly removed: string }> {
  await using lock = await acquireLock(repo, { exclusive: true }, ctx);
  const added = await addAndProve(repo, password, { ...ctx, signal: lock.signal });
  try {
    await lock.confirm();
    await repo.storage.remove({ type: 'keys', name: repo.keyName }, lock.signal);
  } catch (error) {
    throw bothOpen(error, added, repo.keyName);
  }
  return { added, removed: repo.keyName };
}

function bothOpen(error: unknown, added: string, old: string): TarsError {
  const cause = toTarsError(error, 'Cannot remove the old key');
  const state = `key ${shortId(added)} was added, but ${shortId(old)} is still there: both passwords open the repository`;
  const hint = `With the new password: tars key remove ${shortId(old)}`;
  return new TarsError(cause.code, `${cause.message}; ${state}`, { hint, cause });
}

async function addAndProve(repo: OpenedRepository, password: string, ctx: OperationContext): Promise<string> {
  const name = await addKey(repo, password, ctx);
  try {
    const content = await repo.storage.load({ type: 'keys', name }, undefined, ctx.signal);
    const opened = await openKeyFile(content, password, name);
    if (opened === undefined || !isSameKey(opened.material, repo.crypto.material)) {
      throw new CorruptionError(`The new key ${shortId(name)} does not open the repository`, {
        hint: 'It was removed again; nothing else changed. Check the memory of this machine.',
      });
    }
    return name;
  } catch (error) {
    // With a signal of its own: an interruption must not leave it.
    const signal = AbortSignal.timeout(removalTimeoutMs);
    await repo.storage.remove({ type: 'keys', name }, signal).catch(() => undefined);
    throw error;
  }
}

function isSameKey(a: KeyMaterial, b: KeyMaterial): boolean {
  return (['encrypt', 'macK', 'macR'] as const).every((part) => Buffer.compare(a[part], b[part]) === 0);
}

function keyNames({ storage }: OpenedRepository, signal: AbortSignal): Promise<string[]> {
  return Array.fromAsync(storage.list('keys', signal), ({ name }) => name);
}

function resolveKey(names: readonly string[], reference: string): string {
  const matches = /^[0-9a-f]{1,64}$/.test(reference)
    ? names.filter((name) => name.startsWith(reference))
    : [];
  const [match, second] = matches;
  if (match === undefined) {
    throw new TarsError('key-not-found', `There is no key "${reference}"`, { hint: listHint });
  }
  if (second !== undefined) {
    const message = `"${reference}" is the beginning of ${matches.length} key ids`;
    throw new TarsError('key-not-found', message, { hint: `Give more digits of the id. ${listHint}` });
  }
  return match;
}
