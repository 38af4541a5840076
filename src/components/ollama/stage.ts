import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isThere, statIfThere } from '../../disk/is-there.ts';
import { nearestExisting } from '../../disk/space.ts';
import { removeTreeAt } from '../../disk/remove-tree.ts';
import { RestoreRefusedError, toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { fileBytes } from '../paths/file-bytes.ts';
import { swapPaths, wayBackLines, type PathSwap } from '../paths/path-swap.ts';
import type { StoredModel } from './facts.ts';
import { blobFileName, readModels, type BrokenModel } from './model-store.ts';
import {
  createDirectories,
  missingDirectories,
  removeEmptyDirectories,
  removeEmptyTree,
  workFolders,
  writeOwned,
  type Owner,
  type WorkFolders,
} from './place.ts';
import type { LiveBlob, OllamaPlace, OllamaPlanDetails } from './plan.ts';
import type { SwapFolders } from './swap.ts';
import { sha256Of, verifiedBytes } from './verified-bytes.ts';

interface Staging {
  readonly blobs: WorkFolders;
  readonly manifests: WorkFolders;
  readonly owner: Owner;
  readonly swaps: PathSwap[];
}

/**
 * Stages blobs, verified by their names while they are written, and manifests. A blob that is already there and
 * right is used as it is; a wrong one will be moved aside.
 */
export async function stageOllamaRestore(
  place: OllamaPlace,
  { restoreId, models, folder }: OllamaPlanDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const staging: Staging = {
    blobs: await workFolders(place.root, 'blobs', restoreId),
    manifests: await workFolders(place.root, 'manifests', restoreId),
    owner: await ownerOf(place.root, folder, source, ctx.signal),
    swaps: [],
  };
  const stagedFolders = [...new Set([dirname(staging.blobs.staged), dirname(staging.manifests.staged)])];
  const rootMissing = await missingDirectories(place.root);
  const discard = async (): Promise<void> => {
    for (const path of stagedFolders) await removeTreeAt(path);
    await removeEmptyDirectories(rootMissing);
  };
  try {
    await createDirectories(rootMissing, staging.owner);
    await stageBlobs(staging, place.liveBlob ?? blobIn(staging), models, folder, source, ctx);
    for (const model of models) await stageManifest(staging, model, folder, source, ctx.signal);
    await setOrphansAside(place.root, staging, models, ctx.signal);
    const details: SwapFolders = {
      swaps: staging.swaps,
      created: [...rootMissing, ...(await directoriesToCreate(staging.swaps))],
      stagedFolders,
      previousFolders: [...new Set([dirname(staging.blobs.previous), dirname(staging.manifests.previous)])],
    };
    return staged(place, staging, details, discard);
  } catch (error) {
    await discard();
    throw toTarsError(error, `Cannot stage the models for ${place.root}`);
  }
}

/** Removes what a staging that was cut off left beside the store's parts. */
export async function removeStaged(root: string, restoreId: string): Promise<void> {
  for (const part of ['blobs', 'manifests']) {
    const { staged: path } = await workFolders(root, part, restoreId);
    await removeTreeAt(dirname(path));
  }
}

function staged(
  place: OllamaPlace,
  staging: Staging,
  details: SwapFolders,
  discard: () => Promise<void>,
): Staged {
  return {
    record: { component: place.name, kind: place.kind, wayBack: wayBackLines(staging.swaps), details },
    replaces: staging.swaps.map(({ live }) => live),
    verify: (ctx) => verifyStaged(place.name, staging, ctx),
    async swap() {
      await createDirectories(details.created, staging.owner);
      await swapPaths(staging.swaps);
      for (const folder of details.stagedFolders) await removeEmptyTree(folder);
    },
    discard,
  };
}

/** The store's owner; when there is no store, the one the captured manifests had. */
async function ownerOf(
  root: string,
  folder: string,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<Owner> {
  const stats = await statIfThere(root);
  if (stats !== undefined) return { uid: Number(stats.uid), gid: Number(stats.gid) };
  for await (const entry of source.entries(`${folder}/manifests`, signal))
    if (entry.type === 'file') return entry.attributes;
  const parent = await statIfThere(await nearestExisting(root));
  return { uid: Number(parent?.uid ?? 0), gid: Number(parent?.gid ?? 0) };
}

const blobIn =
  ({ blobs }: Staging): LiveBlob =>
  (file, signal, onBytes) =>
    sha256Of(fileBytes(join(blobs.live, file), signal), onBytes);

async function stageBlobs(
  staging: Staging,
  liveBlob: LiveBlob,
  models: readonly StoredModel[],
  folder: string,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<void> {
  const wanted = new Map(
    models.flatMap((model) => model.blobs.map((blob) => [blob.sha256, { model, sizeBytes: blob.sizeBytes }])),
  );
  await mkdir(staging.blobs.staged, { recursive: true, mode: 0o700 });
  for (const [sha256, { model, sizeBytes }] of wanted) {
    const file = blobFileName(sha256);
    const live = join(staging.blobs.live, file);
    const task = ctx.progress.start(`${folder} ${file.slice(0, 19)}`, sizeBytes);
    const advance = task.advance.bind(task);
    try {
      const hadLive = await isThere(live);
      const isBlob = hadLive && (await statIfThere(live))?.isFile() === true;
      if (!(isBlob && (await liveBlob(file, ctx.signal, advance)) === sha256)) {
        if (model.stored === 'manifest') {
          throw new RestoreRefusedError(
            `Cannot restore ${model.name}: its blob ${file} in ${staging.blobs.live} is damaged, and the snapshot holds only its name`,
            { hint: `Run "ollama rm ${model.name}" and "ollama pull ${model.name}", then restore again.` },
          );
        }
        const path = join(staging.blobs.staged, file);
        const body = source.open(`${folder}/blobs/${file}`, ctx.signal);
        const what = `The blob ${file} of ${model.name} in the snapshot`;
        await writeOwned(path, verifiedBytes(body, sha256, what), staging.owner, advance);
        staging.swaps.push({ live, staged: path, previous: join(staging.blobs.previous, file), hadLive });
      }
      task.finish('ok');
    } catch (error) {
      task.finish('failed');
      throw error;
    }
  }
}

async function stageManifest(
  staging: Staging,
  model: StoredModel,
  folder: string,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<void> {
  const live = join(staging.manifests.live, model.path);
  const hadLive = await isThere(live);
  if (hadLive) {
    const present = await readFile(live).catch(() => undefined);
    if (present !== undefined && createHash('sha256').update(present).digest('hex') === model.digest) return;
  }
  const path = join(staging.manifests.staged, model.path);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const body = source.open(`${folder}/manifests/${model.path}`, signal);
  const what = `The manifest of ${model.name} in the snapshot`;
  await writeOwned(path, verifiedBytes(body, model.digest, what), staging.owner, () => undefined);
  staging.swaps.push({ live, staged: path, previous: join(staging.manifests.previous, model.path), hadLive });
}

/**
 * A replaced manifest leaves blobs behind that no manifest names any more, and Ollama deletes such blobs when it
 * starts. They belong to the previous generation, so they are moved aside with it.
 */
async function setOrphansAside(
  root: string,
  staging: Staging,
  restored: readonly StoredModel[],
  signal: AbortSignal,
): Promise<void> {
  const { models: live, broken } = await readModels(root, signal);
  const digestAfter = new Map(restored.map((model) => [model.path, model.digest]));
  const replaced = live.filter((m) => digestAfter.has(m.path) && digestAfter.get(m.path) !== m.digest);
  const stays = live.filter((model) => !replaced.includes(model));
  const needed = new Set([...stays, ...restored].flatMap((model) => model.blobs.map((blob) => blob.sha256)));
  const orphans = new Set(replaced.flatMap((model) => model.blobs.map((blob) => blob.sha256)));
  const unread = broken.find((entry) => entry.unread === true && !digestAfter.has(entry.path));
  for (const sha256 of orphans) {
    const file = blobFileName(sha256);
    const path = join(staging.blobs.live, file);
    if (needed.has(sha256) || !(await isThere(path))) continue;
    if (unread !== undefined) throw cannotTellNeeded(unread, file);
    staging.swaps.push({
      live: path,
      staged: null,
      previous: join(staging.blobs.previous, file),
      hadLive: true,
    });
  }
}

/** A model that nobody can read may need a blob that would be moved aside. */
const cannotTellNeeded = ({ name, reason }: BrokenModel, file: string): RestoreRefusedError =>
  new RestoreRefusedError(`Cannot tell whether ${name} of the live store needs the blob ${file}: ${reason}`, {
    hint: 'Correct its owner and mode, or move it out of the store. Then run restore again.',
  });

/** What is missing of the directories that restored files go into, outermost first. */
async function directoriesToCreate(swaps: readonly PathSwap[]): Promise<string[]> {
  const missing = new Set<string>();
  for (const { live, staged: path } of swaps)
    if (path !== null)
      for (const directory of await missingDirectories(dirname(live))) missing.add(directory);
  return [...missing].sort((a, b) => a.length - b.length);
}

async function verifyStaged(
  component: string,
  staging: Staging,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { staged: path } of staging.swaps) {
    if (path?.startsWith(`${staging.blobs.staged}/`) !== true) continue;
    const file = path.slice(staging.blobs.staged.length + 1);
    const actual = await sha256Of(fileBytes(path, ctx.signal), () => undefined);
    if (blobFileName(actual) === file) continue;
    findings.push({
      severity: 'error',
      subject: component,
      code: 'blob-damaged',
      message: `The staged blob ${file} reads back with SHA-256 ${actual}`,
    });
  }
  return findings;
}
