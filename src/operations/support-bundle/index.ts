import { throwIfAborted } from '../../model/abort.ts';
import { toolVersion } from '../../model/version.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { TextCleaner } from '../../ports/support.ts';
import { packBundle, type BundleCompression, type PlacedFile } from './archive.ts';
import { CleanFile, Cleaner } from './clean.ts';
import { collectAll } from './collect.ts';
import { readmeText, type BundleManifest } from './readme.ts';
import { report, type SupportSource } from './source.ts';

/** What a source may take at most. */
const limitMs = 20_000;

/** What a bundle is made of. */
interface BundleRequest {
  readonly sources: readonly SupportSource[];
  readonly cleaner: TextCleaner;
  /** The folder in the archive. */
  readonly folder: string;
  readonly compression: BundleCompression;
  /** How long a source may take; for tests. */
  readonly limitMs?: number;
}

/** A bundle that has been made and not yet been written. */
export interface SupportBundle {
  readonly manifest: BundleManifest;
  readonly archive: Uint8Array;
}

/**
 * Collects, redacts and packs. What is missing, hangs or is too large is named in the manifest and is no error.
 * @throws InterruptedError when the signal aborts
 */
export async function makeSupportBundle(
  { sources, cleaner: texts, folder, compression, limitMs: limit = limitMs }: BundleRequest,
  ctx: OperationContext,
): Promise<SupportBundle> {
  const collected = await collectAll(sources, limit, ctx);
  const cleaner = new Cleaner(texts, [...new Set(collected.secrets)]);
  const { files, omitted } = await CleanFile.cleaned(collected.files, collected.lessons, cleaner, ctx.signal);
  const placed = withUniquePaths(files);
  const now = ctx.clock.now();
  const raw: BundleManifest = {
    version: 1,
    tool: `tars ${toolVersion}`,
    createdAt: now.toISOString(),
    files: placed.map(({ path, file }) => ({
      path,
      from: file.from,
      sizeBytes: Buffer.byteLength(file.text),
    })),
    omitted: [...collected.omitted, ...omitted],
  };
  const about = await CleanFile.cleaned(
    [
      report('manifest.json', 'tars', raw),
      { path: 'README.txt', from: 'tars', form: 'note', body: readmeText(raw) },
    ],
    [],
    cleaner,
    ctx.signal,
  );
  throwIfAborted(ctx.signal);
  const manifest = JSON.parse(about.files[0]?.text ?? '{}') as BundleManifest;
  const all = [...withUniquePaths(about.files), ...placed];
  return { manifest, archive: await packBundle(folder, all, now, compression) };
}

/** Two paths may have become one when what told them apart was redacted. */
function withUniquePaths(files: readonly CleanFile[]): readonly PlacedFile[] {
  const taken = new Set<string>();
  return files.map((file) => {
    let path = file.path;
    for (let count = 2; taken.has(path); count++) path = file.path.replace(/(\.[^./]*)?$/, `-${count}$1`);
    taken.add(path);
    return { path, file };
  });
}
