import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../../model/bytes.ts';
import { describeIncomplete, type Manifest } from '../../model/manifest.ts';
import { counted } from '../../model/plural.ts';
import { parseCronExpression, previousTime } from '../../model/cron-expression.ts';
import { isOwnedBy, shortId, type SnapshotOwner, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { LockHolder, SnapshotStore } from '../../ports/snapshot-store.ts';
import { byHost, describeHosts } from '../restore/choose-snapshot.ts';
import { error, ok, warning, type HealthCheck, type Outcome } from './doctor.ts';
import { freeBytes } from '../../disk/space.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
/** Without a schedule, somebody is expected to back up every day. */
const unscheduledAgeMs = 26 * hourMs;
/** What a scheduled backup may take to start and to end. */
const graceMs = 2 * hourMs;
/** Clocks of two machines differ by a little. */
const clockToleranceMs = 5 * minuteMs;
/** So many of the last snapshots tell how much the next one may add. */
const recentCount = 5;
/** Room for fewer snapshots than these is worth a warning. */
const scarceCount = 7;
/** Nobody counts further. */
const plentyCount = 1000;

/** What the checks of a repository examine at. */
export interface RepositoryUnderExamination {
  /** Whose snapshots are looked at. */
  readonly owner: SnapshotOwner;
  /** The directory of a local repository. */
  readonly path: string;
  /** When backups are to run, as five fields of a crontab. */
  readonly backupCron: string | undefined;
  readonly store: (ctx: OperationContext) => Promise<SnapshotStore>;
  /** Those of the stack on this host, oldest first; undefined when the repository does not open. */
  readonly snapshots: (ctx: OperationContext) => Promise<readonly SnapshotSummary[] | undefined>;
  readonly lastManifest: (ctx: OperationContext) => Promise<Manifest | undefined>;
  /** When a recovery kit of that repository was exported last, and with which of its keys. */
  readonly lastKit: (
    repositoryId: string,
  ) => Promise<{ readonly exportedAt: string; readonly keyId: string } | undefined>;
  /** Bytes that a first snapshot would read, as far as stores say. */
  readonly stackBytes: (ctx: OperationContext) => Promise<number>;
}

/** The checks of the repository. All but the first wait for the repository to open. */
export function repositoryChecks(repository: RepositoryUnderExamination): readonly HealthCheck[] {
  return [
    { name: 'repository', examine: (ctx) => lookAtRepository(repository, ctx) },
    { name: 'locks', follows: true, examine: (ctx) => lookAtLocks(repository, ctx) },
    { name: 'packs', follows: true, examine: (ctx) => lookAtPacks(repository, ctx) },
    { name: 'last snapshot', follows: true, examine: (ctx) => lookAtLast(repository, ctx) },
    { name: 'space', follows: true, examine: (ctx) => lookAtSpace(repository, ctx) },
    { name: 'clock', follows: true, examine: (ctx) => lookAtClock(repository, ctx) },
    { name: 'recovery key', follows: true, examine: (ctx) => lookAtKit(repository, ctx) },
  ];
}

async function lookAtRepository(
  { store, owner }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const opened = await store(ctx);
  const all = await opened.list(ctx);
  const own = all.filter((snapshot) => isOwnedBy(snapshot, owner));
  const what = `format version ${opened.formatVersion}, ${counted(own.length, 'snapshot')} of this stack on ${owner.hostname}`;
  const others = all.filter(({ stack, hostname }) => stack === owner.stack && hostname !== owner.hostname);
  const opens = ok(`${opened.location} opens: ${what}`);
  if (others.length === 0) return [opens];
  const beside = `Other hosts took snapshots of this stack: ${describeHosts(byHost(others))}`;
  return [
    opens,
    own.length > 0
      ? ok(beside)
      : warning(
          beside,
          'If this machine was renamed or replaces one of them, set host: in tars.yaml to that name.',
        ),
  ];
}

async function lookAtLocks(
  { snapshots, store }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  if ((await snapshots(ctx)) === undefined) return [];
  const holders = await (await store(ctx)).holders(ctx);
  const list = (wanted: (holder: LockHolder) => boolean): string =>
    holders
      .filter(wanted)
      .map(({ who }) => who)
      .join(', ');
  const unreadable = list(({ state }) => state === 'unreadable');
  const excluding = list(({ state, exclusive }) => state === 'stale' && exclusive);
  const left = list(({ state, exclusive }) => state === 'stale' && !exclusive);
  const gone = list(({ state }) => state === 'gone');
  const live = list(({ state }) => state === 'live');
  return [
    ...(unreadable === ''
      ? []
      : [
          error(
            `A lock that cannot be read blocks every backup and restore: ${unreadable}`,
            'When no other process uses the repository, run tars unlock --all.',
          ),
        ]),
    ...(excluding === ''
      ? []
      : [
          error(
            `A lock left by ${excluding} blocks every backup and restore`,
            'Make sure that this process has ended, then run tars unlock.',
          ),
        ]),
    ...(left === '' ? [] : [warning(`Locks left by ${left} block forget and prune`, 'Run tars unlock.')]),
    ...(gone === ''
      ? []
      : [ok(`${gone} left a lock. That process has ended, and the next run removes its lock`)]),
    ...(live === '' ? [] : [ok(`In use by ${live}`)]),
  ];
}

/** Reads no pack. */
async function lookAtPacks(
  { snapshots, store }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  if ((await snapshots(ctx)) === undefined) return [];
  const { missing, misfit, damaged } = await (await store(ctx)).examinePacks(ctx);
  const found = [
    ...(missing.length === 0 ? [] : [`${counted(missing.length, 'pack')} missing`]),
    ...(misfit.length === 0 ? [] : [`${counted(misfit.length, 'pack')} of the wrong size`]),
    ...(damaged.length === 0 ? [] : [`${counted(damaged.length, 'pack')} that a check found damaged`]),
  ];
  if (found.length === 0) return [ok('Every pack in the index exists and has the right size')];
  return [
    error(
      `The repository has ${found.join(', ')}: snapshots that need them cannot be restored completely`,
      'Run tars check --read-data: it names these snapshots and prints the steps that repair the repository.',
    ),
  ];
}

async function lookAtLast(
  { snapshots, lastManifest, backupCron }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const all = await snapshots(ctx);
  if (all === undefined) return [];
  const last = all.at(-1);
  if (last === undefined) return [warning('There is no snapshot yet', 'Take one with tars backup.')];
  const taken = `${shortId(last.id)} of ${last.time.toISOString()}`;
  const outcomes: Outcome[] = [];
  if (last.time < dueSince(backupCron, ctx.clock.now()))
    outcomes.push(
      warning(
        `The last snapshot, ${taken}, is older than the schedule allows`,
        'Find out with tars status why there is no newer one, or take one with tars backup.',
      ),
    );
  if (last.tags.includes('partial'))
    outcomes.push(
      warning(
        `The last snapshot, ${taken}, is partial: ${failuresOf(await lastManifest(ctx))}`,
        'Fix that, then run tars backup again.',
      ),
    );
  return outcomes.length > 0 ? outcomes : [ok(`Snapshot ${taken} is complete`)];
}

/** A snapshot must not be older than this. */
function dueSince(cron: string | undefined, now: Date): Date {
  if (cron === undefined) return new Date(now.getTime() - unscheduledAgeMs);
  return previousTime(parseCronExpression(cron), new Date(now.getTime() - graceMs));
}

function failuresOf(manifest: Manifest | undefined): string {
  const lacking = (manifest?.components ?? []).flatMap((component) => {
    const { name, outcome, error: cause } = component;
    const missing = outcome === 'failed' ? (cause?.message ?? 'failed') : describeIncomplete(component);
    return missing === undefined ? [] : [`${name}: ${missing}`];
  });
  return lacking.length === 0 ? 'its manifest gives no reason' : lacking.join('; ');
}

async function lookAtSpace(
  { snapshots, stackBytes, path }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const all = await snapshots(ctx);
  if (all === undefined) return [];
  const free = await freeBytes(path);
  const room = `${formatBytes(free)} are free at ${path}`;
  const hint = 'Free space there, or forget snapshots with tars forget and tars prune.';
  if (all.length === 0) {
    const needed = await stackBytes(ctx);
    return needed > free
      ? [warning(`${room}, and the first snapshot reads ${formatBytes(needed)}`, hint)]
      : [ok(`${room}; the first snapshot reads ${formatBytes(needed)}, and adds less`)];
  }
  const next = expectedBytes(all);
  if (next === undefined) return [ok(`${room}; the size of earlier snapshots is not recorded`)];
  const fit = Math.floor(free / Math.max(next, 1));
  const text = `${room}: room for ${fit > plentyCount ? `more than ${plentyCount}` : fit} more snapshots that add ${formatBytes(next)} as recent ones did`;
  if (fit < 1) return [error(text, hint)];
  return [fit < scarceCount ? warning(text, hint) : ok(text)];
}

/** The most that one of the last snapshots added; the first of all counts only as long as it is alone. */
function expectedBytes(snapshots: readonly SnapshotSummary[]): number | undefined {
  const later = snapshots.length > 1 ? snapshots.slice(1) : snapshots;
  const added = later.slice(-recentCount).flatMap(({ addedBytes }) => addedBytes ?? []);
  return added.length === 0 ? undefined : Math.max(...added);
}

async function lookAtClock(
  { snapshots, path }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const all = await snapshots(ctx);
  if (all === undefined) return [];
  const now = ctx.clock.now();
  const limitMs = now.getTime() + clockToleranceMs;
  const hint = 'Set the clock of this machine, or of the machine that holds the repository: timedatectl.';
  const future = all.filter(({ time }) => time.getTime() > limitMs);
  const latest = future.at(-1);
  const more = future.length > 1 ? ` (the last of ${future.length} with a future date)` : '';
  const newestMs = await newestFileMs(path);
  return [
    ...(latest === undefined
      ? []
      : [
          warning(
            `Snapshot ${shortId(latest.id)}${more} has the date ${latest.time.toISOString()}, and it is ${now.toISOString()} now`,
            hint,
          ),
        ]),
    ...(newestMs > limitMs
      ? [
          warning(
            `A file in ${path} has the time ${new Date(newestMs).toISOString()}, which is in the future`,
            hint,
          ),
        ]
      : []),
    ...(future.length === 0 && newestMs <= limitMs ? [ok(`It is ${now.toISOString()}`)] : []),
  ];
}

/** When something was last written, by the clock of whoever keeps the files. */
async function newestFileMs(path: string): Promise<number> {
  const places = await Promise.all(
    ['snapshots', 'index', 'locks', 'keys'].map(async (folder) => {
      const names = await readdir(join(path, folder)).catch(() => []);
      return [join(path, folder), ...names.map((name) => join(path, folder, name))];
    }),
  );
  const times = await Promise.all(
    places.flat().map((place) =>
      stat(place).then(
        ({ mtimeMs }) => mtimeMs,
        // It went meanwhile.
        () => 0,
      ),
    ),
  );
  return Math.max(...times);
}

/** A key that is only on the machine that may burn is none. */
async function lookAtKit(
  { snapshots, store, lastKit }: RepositoryUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  if ((await snapshots(ctx)) === undefined) return [];
  const opened = await store(ctx);
  const hint = 'Run tars key export, print the page, and keep it away from this machine.';
  const kit = await lastKit(opened.id);
  if (kit === undefined)
    return [
      warning(
        'The recovery key was never exported: if this machine is lost, no one can read the snapshots',
        hint,
      ),
    ];
  const keys = await opened.listKeys(ctx);
  return keys.some(({ id }) => id === kit.keyId)
    ? [ok(`The recovery kit was exported at ${kit.exportedAt}`)]
    : [warning(`The key on the recovery kit of ${kit.exportedAt} no longer opens the repository`, hint)];
}
