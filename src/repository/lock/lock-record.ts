import { hostname, userInfo } from 'node:os';
import { z } from 'zod';
import { bootTimeMs, hasEnded, machineId, ownPidPlace, processStartOf } from '../../disk/process-identity.ts';
import { CorruptionError } from '../../model/errors.ts';
import { encodeGoJson } from '../format/go-json.ts';

/** A lock whose holder has not refreshed it for so long is dead: `internal/repository/lock_file.go` of restic. */
export const staleAfterMs = 30 * 60_000;
/** How often a live holder refreshes its lock, restic as well as tars. */
export const refreshEveryMs = 5 * 60_000;
/** A holder that works has refreshed its lock within three of those intervals, wherever it runs. */
const silentAfterMs = 3 * refreshEveryMs;

/** What a lock of tars says beyond restic's: enough to tell its process from every other one. */
const holderSchema = z.object({
  bootId: z.string(),
  pidNamespace: z.string(),
  processStart: z.string(),
  machineId: z.string(),
});
type Holder = z.infer<typeof holderSchema>;

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
  // restic passes over members that it does not know.
  tars: holderSchema.optional().catch(undefined),
});
/** A lock as read, from tars or restic. `time` is when it was last refreshed. */
export type LockRecord = z.infer<typeof lockSchema>;

/** @throws CorruptionError when `json` is no lock */
export function decodeLock(json: string, name: string): LockRecord {
  try {
    return lockSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new CorruptionError(`Lock ${name} is not valid`, { cause });
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
    tars: ownHolder(),
  });
}

function ownHolder(): Holder | undefined {
  const place = ownPidPlace();
  if (place === undefined) return undefined;
  return { ...place, processStart: processStartOf(process.pid), machineId: machineId() };
}

/**
 * `gone`: its process has certainly ended, so that its lock is in nobody's way. `stale`: it was not refreshed for
 * 30 minutes, or is of a process that cannot be found here, which restic takes for its end too. `live`: neither is known.
 */
type LockState = 'live' | 'stale' | 'gone';

/** Judges a lock by what it says and by what this process can see of its holder. */
export function lockState(lock: LockRecord, now: Date): LockState {
  const silentMs = now.getTime() - Date.parse(lock.time);
  if (isGone(lock, silentMs, now)) return 'gone';
  if (silentMs > staleAfterMs) return 'stale';
  return isUnseenHere(lock) ? 'stale' : 'live';
}

/** A process of another pid namespace has other pids: nothing can be said of it, except by the age of its lock. */
function isGone(lock: LockRecord, silentMs: number, now: Date): boolean {
  const { tars, pid } = lock;
  // What does not say where its pid counts may run in a container that has the name of this host.
  if (tars === undefined) return isUnseenHere(lock) && silentMs > silentAfterMs;
  const here = ownPidPlace();
  if (here === undefined) return false;
  if (tars.bootId !== here.bootId) return wasBeforeBoot(lock, tars, now);
  // tars gives up before its lock is stale, and one kernel has one clock.
  if (tars.pidNamespace !== here.pidNamespace) return silentMs > staleAfterMs;
  return hasEnded(pid, tars.processStart);
}

/** A copy of this machine that runs elsewhere would have refreshed its lock since. */
function wasBeforeBoot(lock: LockRecord, tars: Holder, now: Date): boolean {
  const isThisMachine =
    lock.hostname === hostname() && tars.machineId !== '' && tars.machineId === machineId();
  return isThisMachine && Date.parse(lock.time) < bootTimeMs(now);
}

/** How restic judges: a pid that this host does not have. */
function isUnseenHere({ hostname: holderHost, pid, tars }: LockRecord): boolean {
  return tars === undefined && holderHost === hostname() && hasEnded(pid, undefined);
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
