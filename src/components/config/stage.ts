import { chmod, chown, mkdir, readFile, realpath, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createDurably } from '../../disk/durable-file.ts';
import { isThere } from '../../disk/is-there.ts';
import { realPathIfThere } from '../../disk/real-path.ts';
import { hasErrno, toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { swapPaths, wayBackLines, type PathSwap } from '../paths/path-swap.ts';
import { besidePath } from '../paths/beside-name.ts';
import { contents, sha256Of } from './contents.ts';
import type { CapturedFile } from './facts.ts';
import { liveBytes, restoreConfigHint, type ConfigPlace, type ConfigPlanDetails } from './plan.ts';
import { removeEmptyDirectories } from './swap.ts';

/** One file beside its place: 0600 until the swap, whatever its mode will be. */
interface StagedFile {
  readonly swap: PathSwap;
  readonly stagedPath: string;
  readonly mode: number;
  readonly sha256: string;
}

/**
 * Stages what is missing, and what differs where the operator wants it replaced. Without a true copy the redacted
 * view is staged for a name of its own, beside the live file.
 */
export async function stageConfigRestore(
  place: ConfigPlace,
  details: ConfigPlanDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const stagedFiles: StagedFile[] = [];
  const created: string[] = [];
  const discard = async (): Promise<void> => {
    for (const { stagedPath } of stagedFiles) await rm(stagedPath, { force: true });
    await removeEmptyDirectories(created);
  };
  try {
    const contentOf = await contents(place, details, source, ctx.signal);
    for (const file of details.files) {
      const bytes = await contentOf(file);
      const live = await targetOf(file, bytes, details, ctx);
      if (live !== undefined) await stageFile(live, file, bytes, details, stagedFiles, created);
    }
  } catch (error) {
    await discard();
    throw toTarsError(error, `Cannot stage the files of ${place.name}`);
  }
  const swaps = stagedFiles.map((file) => file.swap);
  return {
    record: {
      component: place.name,
      kind: place.kind,
      wayBack: wayBackLines(swaps),
      details: { swaps, created },
    },
    replaces: swaps.map(({ live }) => live),
    verify: () => verifyStaged(place.name, stagedFiles),
    async swap() {
      for (const { stagedPath, mode } of stagedFiles) await setMode(stagedPath, mode);
      await swapPaths(swaps);
    },
    discard,
  };
}

/** Removes what a staging that was cut off left beside the files, also where they are links. */
export async function removeStaged(files: readonly string[], restoreId: string): Promise<void> {
  for (const path of files) {
    const target = await realPathIfThere(path);
    // With the redacted view alone, the name of its own that it was to get comes in between.
    for (const live of [path, target, `${path}.redacted-${restoreId}`]) {
      await rm(besidePath(live, 'new', restoreId), { force: true });
    }
  }
}

/** The path to swap at, through links; undefined when the live file stays as it is. */
async function targetOf(
  file: CapturedFile,
  bytes: Uint8Array,
  { trueCopy, restoreId, restoreConfig }: ConfigPlanDetails,
  ctx: OperationContext,
): Promise<string | undefined> {
  if (trueCopy === 'none') return `${file.path}.redacted-${restoreId}`;
  const live = await liveBytes(file.path, ctx.signal);
  if (live === undefined) return file.path;
  if (Buffer.compare(live, bytes) === 0) return undefined;
  if (restoreConfig) return realpath(file.path);
  ctx.log.warn(`${file.path} differs from the snapshot and is left as it is; ${restoreConfigHint}`);
  return undefined;
}

async function stageFile(
  live: string,
  file: CapturedFile,
  bytes: Uint8Array,
  { restoreId, trueCopy }: ConfigPlanDetails,
  stagedFiles: StagedFile[],
  created: string[],
): Promise<void> {
  await createDirectories(dirname(live), file, created);
  const stagedPath = besidePath(live, 'new', restoreId);
  const swap = {
    live,
    staged: stagedPath,
    previous: besidePath(live, 'prev', restoreId),
    hadLive: await isThere(live),
  };
  const mode = trueCopy === 'none' ? 0o600 : file.mode;
  const mtime = new Date(Number(BigInt(file.mtimeNs) / 1_000_000n));
  try {
    await createDurably(stagedPath, [bytes], {
      async finish(handle) {
        if (process.getuid?.() === 0) await handle.chown(file.uid, file.gid);
        await handle.utimes(mtime, mtime);
      },
    });
  } catch (error) {
    throw toTarsError(error, `Cannot write ${stagedPath}`);
  }
  stagedFiles.push({ swap, stagedPath, mode, sha256: sha256Of(bytes) });
}

async function createDirectories(directory: string, file: CapturedFile, created: string[]): Promise<void> {
  const missing: string[] = [];
  for (let path = directory; !(await isThere(path)); path = dirname(path)) missing.unshift(path);
  for (const path of missing) {
    await mkdir(path, { mode: 0o755 });
    created.push(path);
    if (process.getuid?.() === 0) await chown(path, file.uid, file.gid);
  }
}

/** A staged file that is gone was swapped in by an earlier attempt, with its mode. */
async function setMode(path: string, mode: number): Promise<void> {
  await chmod(path, mode).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw toTarsError(error, `Cannot set the mode of ${path}`);
  });
}

async function verifyStaged(component: string, files: readonly StagedFile[]): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { stagedPath, sha256 } of files) {
    if (sha256Of(await readFile(stagedPath)) === sha256) continue;
    findings.push({
      severity: 'error',
      subject: component,
      code: 'file-damaged',
      message: `The staged file ${stagedPath} does not read back as it was written`,
    });
  }
  return findings;
}
