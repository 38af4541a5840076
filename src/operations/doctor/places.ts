import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isMissing } from '../../disk/is-there.ts';
import { formatBytes } from '../../model/bytes.ts';
import { hasErrno, isDenied, messageOf, systemErrorHint } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { OperationContext } from '../../ports/context.ts';
import { error, ok, warning, type HealthCheck, type Outcome } from './doctor.ts';
import type { ExaminedComponent } from './stack.ts';
import { freeBytes, nearestExisting } from '../../disk/space.ts';

/** A right that a capture or a restore needs on a path of this machine. */
export interface PathNeed {
  readonly path: string;
  /**
   * `read` and `write` what is there; `create` it, where it is not there yet; `replace` it, which takes the right to
   * write to the directory it is in.
   */
  readonly right: 'read' | 'write' | 'create' | 'replace';
  /** What for, such as `the restore of redis`. */
  readonly purpose: string;
}

/** Which places of this machine the checks examine at. */
interface PlacesUnderExamination {
  readonly needs: readonly PathNeed[];
  readonly repositoryPath: string;
  readonly scratchDir: string;
  /** What earlier runs left where scratch is. */
  readonly leftovers: (now: Date) => Promise<ScratchLeftovers>;
  /** Where live data is. */
  readonly dataPaths: readonly string[];
  readonly components: readonly ExaminedComponent[];
}

/** Paths that are not encrypted, and that no run needs any more. */
export interface ScratchLeftovers {
  /** Of runs that were killed; the next run removes it. */
  readonly abandoned: readonly string[];
  /** As versions up to 1.0.12 left it, which did not mark it as theirs. */
  readonly earlier: readonly string[];
}

/** The checks of the directories of this machine: rights, the scratch directory and room on the disks. */
export function placeChecks(places: PlacesUnderExamination): readonly HealthCheck[] {
  return [
    { name: 'rights', examine: () => lookAtRights(places) },
    { name: 'scratch', follows: true, examine: (ctx) => lookAtScratch(places, ctx) },
    { name: 'leftovers', examine: ({ clock }) => lookAtLeftovers(places, clock.now()) },
    { name: 'disks', examine: () => lookAtDisks(places) },
  ];
}

async function lookAtRights({ needs }: PlacesUnderExamination): Promise<readonly Outcome[]> {
  const problems = (await Promise.all(needs.map(problemWith))).flatMap((problem) => problem ?? []);
  if (problems.length > 0) return problems;
  const paths = new Set(needs.map(({ path }) => path));
  return [ok(`${counted(paths.size, 'path')} can be used for backups and restores`)];
}

/** The kernel is asked; nothing is written. A file system that is mounted read-only says so to root too. */
async function problemWith({ path, right, purpose }: PathNeed): Promise<Outcome | undefined> {
  const [place, mode] = await placeAndMode(path, right);
  try {
    await access(place, mode);
    return undefined;
  } catch (cause) {
    const verb = right === 'read' ? 'read' : 'written to';
    if (isMissing(cause))
      return error(`${place} does not exist, and ${purpose} needs it`, 'Correct the path, or create it.');
    if (hasErrno(cause, 'EROFS'))
      return error(`${place} is mounted read-only, and ${purpose} writes to it`, systemErrorHint(cause));
    return error(
      `${place} cannot be ${verb}, which ${purpose} needs${isDenied(cause) ? '' : `: ${messageOf(cause)}`}`,
      systemErrorHint(cause) ?? 'Run tars as a user who may, or correct its owner and mode.',
    );
  }
}

async function placeAndMode(path: string, right: PathNeed['right']): Promise<[string, number]> {
  const { R_OK, W_OK, X_OK } = constants;
  switch (right) {
    case 'read':
      return [path, R_OK];
    case 'write':
      return [path, R_OK | W_OK | X_OK];
    case 'create':
      return [await nearestExisting(path), W_OK | X_OK];
    case 'replace':
      return [dirname(path), W_OK | X_OK];
  }
}

/** Whole copies of stores are there at the same time; a portable archive puts each dump there before it. */
async function lookAtScratch(
  { scratchDir, components }: PlacesUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const sizes = await Promise.all(
    components.map(async ({ scratch, probe }) => {
      const sizeBytes = await probe(ctx).then(
        (found) => found.sizeBytes,
        // Its own check says why.
        () => 0,
      );
      return { scratch, sizeBytes };
    }),
  );
  const atOnce = sizes
    .filter(({ scratch }) => scratch === 'all')
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const largestDump = Math.max(
    0,
    ...sizes.filter(({ scratch }) => scratch === 'archives').map(({ sizeBytes }) => sizeBytes),
  );
  const free = await freeBytes(scratchDir);
  const room = `${formatBytes(free)} are free at ${scratchDir}`;
  const hint = 'Free space there, or set scratch_dir in tars.yaml to a larger place.';
  if (atOnce > free) return [error(`${room}, and a backup puts up to ${formatBytes(atOnce)} there`, hint)];
  if (largestDump > free)
    return [warning(`${room}, and a portable archive puts up to ${formatBytes(largestDump)} there`, hint)];
  return [ok(`${room}; a backup puts up to ${formatBytes(atOnce)} there`)];
}

async function lookAtLeftovers(
  { leftovers }: PlacesUnderExamination,
  now: Date,
): Promise<readonly Outcome[]> {
  const { abandoned, earlier } = await leftovers(now);
  return [
    ...(abandoned.length === 0
      ? []
      : [ok(`A run that was killed left ${abandoned.join(', ')}; the next run removes it`)]),
    ...(earlier.length === 0
      ? []
      : [
          warning(
            `An older tars that was killed seems to have left, not encrypted: ${earlier.join(', ')}`,
            'Check what it is. If it does not belong to another program and no older tars runs, delete it.',
          ),
        ]),
  ];
}

async function lookAtDisks({
  repositoryPath,
  dataPaths,
}: PlacesUnderExamination): Promise<readonly Outcome[]> {
  const own = await deviceOf(repositoryPath);
  const devices = await Promise.all(dataPaths.map(deviceOf));
  const beside = dataPaths.filter((_, position) => own !== undefined && devices[position] === own);
  const [first, ...others] = beside;
  if (first === undefined) return [];
  const more = others.length === 0 ? '' : ` and ${counted(others.length, 'other place')}`;
  return [
    warning(
      `The repository is on the same file system as ${first}${more}: a disk that fails takes both`,
      'Keep the repository on another disk, or a copy of it elsewhere: any copy of its files is one.',
    ),
  ];
}

async function deviceOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ dev }) => dev,
    () => undefined,
  );
}
