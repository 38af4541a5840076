import { hostname, userInfo } from 'node:os';
import { z } from 'zod';
import { CorruptionError, hasErrno } from '../model/errors.ts';
import { encodeGoJson } from './format/go-json.ts';

/** A lock whose holder has not refreshed it for so long is dead: `internal/repository/lock_file.go` of restic. */
export const staleAfterMs = 30 * 60_000;

/**
 * One lock as restic keeps it (`doc/design.rst`, "Locks"). Go leaves `uid` and `gid` out when they are 0. A PID
 * below 1 would address a process group, so it counts as damage.
 */
const lockSchema = z.object({
  time: z.string().refine((text) => !Number.isNaN(Date.parse(text))),
  exclusive: z.boolean(),
  hostname: z.string(),
  username: z.string(),
  pid: z.number().int().positive(),
  uid: z.number().int().nonnegative().optional(),
  gid: z.number().int().nonnegative().optional(),
});
/** A lock that was read, whoever wrote it. `time` is when it was last refreshed. */
export type LockRecord = z.infer<typeof lockSchema>;

/** @throws CorruptionError when `json` is no lock */
export function decodeLock(json: string, name: string): LockRecord {
  try {
    return lockSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new CorruptionError(`Lock ${name} is not what it should be`, { cause });
  }
}

/** The name of the user this process runs as; empty where it has none. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user may have no entry in the password database.
    return '';
  }
}

/** The JSON of a lock of this process, members in restic's order. */
export function encodeOwnLock(exclusive: boolean, time: Date): string {
  return encodeGoJson({
    time: time.toISOString(),
    exclusive,
    hostname: hostname(),
    username: userName(),
    pid: process.pid,
    uid: process.getuid?.() || undefined,
    gid: process.getgid?.() || undefined,
  });
}

/** Signal 0 only asks; restic asks with SIGHUP, which kills a process that has no handler for it. */
function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasErrno(error, 'EPERM');
  }
}

/** True when the lock was not refreshed for 30 minutes, or its holder was a process of this host that is gone. */
export function isStale(lock: LockRecord, now: Date): boolean {
  if (now.getTime() - Date.parse(lock.time) > staleAfterMs) return true;
  return lock.hostname === hostname() && !processExists(lock.pid);
}

function ageText(ageMs: number): string {
  const seconds = Math.max(0, Math.round(ageMs / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** The holder for a person, such as `PID 4711 on box (user root, refreshed 12 s ago)`. */
export function describeLock(lock: LockRecord, now: Date): string {
  const age = ageText(now.getTime() - Date.parse(lock.time));
  const user = lock.username === '' ? '' : `user ${lock.username}, `;
  return `PID ${lock.pid} on ${lock.hostname} (${user}refreshed ${age} ago)`;
}
