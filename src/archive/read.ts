import { createReadStream } from 'node:fs';
import { throwIfAborted } from '../model/abort.ts';
import { CorruptionError, TarsError, toTarsError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import type { Manifest } from '../model/manifest.ts';
import type { SnapshotSummary } from '../model/snapshot.ts';
import type { ArtifactAttributes, ArtifactEntry, Bytes } from '../ports/artifacts.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';
import { checksumPath, compareChecksum } from './checksum-file.ts';
import { comparePaths, parentsOf } from './names.ts';
import { isLeftover, scanArchive, type ScannedArchive, type ScannedEntry, type TakeFile } from './scan.ts';
import { createScratch, type Scratch } from './scratch.ts';
import { archiveSummary } from './summary.ts';
import { readToEnd } from './tar-read.ts';

/** What opening an archive needs besides its path. */
interface ArchiveReadOptions {
  /** Where {@link openArchive} puts the extracted files. */
  readonly scratchDir: string;
}

/**
 * Opens a portable archive: compares it with the `.sha256` beside it (warns when there is none), extracts it into
 * a private directory below `scratchDir` and verifies every artifact against the manifest on the way. Only then is
 * anything handed out. Extracted files are numbered there, so no name in the archive can reach another place.
 * Dispose removes them.
 * @throws CorruptionError when anything is damaged, truncated, missing, unknown, or a kind of entry tars never writes
 * @throws TarsError `no-space` when `scratchDir` cannot take the content, `storage-not-found` without the file
 */
export async function openArchive(
  file: string,
  options: ArchiveReadOptions,
  ctx: OperationContext,
): Promise<SnapshotSource> {
  const checksum = await compareChecksum(file, ctx.signal);
  if (checksum instanceof CorruptionError) throw checksum;
  if (checksum === 'missing') {
    ctx.log.warn(missingChecksum(file));
  }
  const scratch = await createScratch(options.scratchDir);
  try {
    const files = new Map<string, string>();
    const extract: TakeFile = async (path, sizeBytes, body, signal) => {
      const name = String(files.size);
      await scratch.spool(name, body, sizeBytes, signal);
      files.set(path, scratch.path(name));
    };
    const scanned = await scanArchive(file, extract, ctx.signal);
    const [first] = scanned.findings;
    if (first !== undefined) {
      throw new CorruptionError(
        `${file} is damaged (${scanned.findings.length} findings): ${first.message}`,
        {
          hint: 'Use another copy of the archive, or another backup.',
        },
      );
    }
    return new ArchiveSource(scanned, scratch, files);
  } catch (error) {
    await scratch[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Reads a portable archive through without extracting it (`scratchDir` stays untouched) and reports what is wrong:
 * no error among the findings means that {@link openArchive} would accept it.
 * @throws TarsError when the file cannot be read at all (`storage-not-found`, `access-denied`)
 */
export async function verifyArchive(
  file: string,
  _options: ArchiveReadOptions,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const report = (severity: Finding['severity'], code: string, message: string): void => {
    findings.push({ severity, subject: file, code, message });
  };
  const checksum = await compareChecksum(file, ctx.signal);
  if (checksum instanceof CorruptionError) report('error', 'archive-checksum-differs', checksum.message);
  if (checksum === 'missing') report('warning', 'archive-checksum-missing', missingChecksum(file));
  try {
    const scanned = await scanArchive(file, readThrough, ctx.signal);
    findings.push(...scanned.findings);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    report('error', 'archive-damaged', error.message);
  }
  return findings;
}

const missingChecksum = (file: string): string =>
  `${checksumPath(file)} is missing; the archive is verified against its own manifest only`;

const readThrough: TakeFile = (_path, _sizeBytes, body) => readToEnd(body);

class ArchiveSource implements SnapshotSource {
  readonly summary: SnapshotSummary;
  readonly #manifest: Manifest;
  readonly #scratch: Scratch;
  readonly #files: ReadonlyMap<string, string>;
  readonly #entries: readonly ArtifactEntry[];
  /** By the path of a further name, that of the file. */
  readonly #links: ReadonlyMap<string, string>;

  constructor(scanned: ScannedArchive, scratch: Scratch, files: ReadonlyMap<string, string>) {
    this.summary = archiveSummary(scanned.root, scanned.manifest);
    this.#manifest = scanned.manifest;
    this.#scratch = scratch;
    this.#files = files;
    this.#links = linksIn(scanned);
    this.#entries = sortedEntries(scanned, new Set(this.#links.values()));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- they are in memory
  async *entries(prefix: string, signal: AbortSignal): AsyncIterable<ArtifactEntry> {
    throwIfAborted(signal);
    for (const entry of this.#entries) {
      if (prefix === '' || entry.path === prefix || entry.path.startsWith(`${prefix}/`)) yield entry;
    }
  }

  async *open(path: string, signal: AbortSignal): Bytes {
    const file = this.#files.get(this.#links.get(path) ?? path);
    if (file === undefined) {
      throw new TarsError('artifact-not-found', `The archive ${this.summary.id} holds no file ${path}`);
    }
    try {
      for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal })) {
        yield chunk as Uint8Array;
      }
    } catch (cause) {
      throw toTarsError(cause, `Cannot read the extracted ${path}`);
    }
  }

  manifest(): Promise<Manifest> {
    return Promise.resolve(this.#manifest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scratch[Symbol.asyncDispose]();
  }
}

/** What a snapshot shows: every entry that is vouched for, with the folders above that the tar leaves implicit. */
function sortedEntries({ entries, manifest }: ScannedArchive, linked: ReadonlySet<string>): ArtifactEntry[] {
  const implied: ArtifactAttributes = {
    mode: 0o700,
    uid: 0,
    gid: 0,
    mtimeNs: BigInt(Date.parse(manifest.time)) * 1_000_000n,
  };
  const shown = new Map<string, ArtifactEntry>();
  for (const entry of entries.values()) {
    if (isLeftover(entry, manifest)) continue;
    shown.set(entry.path, artifactEntry(entry, linked));
    for (const path of parentsOf(entry.path)) {
      if (!entries.has(path)) shown.set(path, { path, type: 'directory', sizeBytes: 0, attributes: implied });
    }
  }
  return [...shown.values()].sort((a, b) => comparePaths(a.path, b.path));
}

function linksIn({ entries }: ScannedArchive): ReadonlyMap<string, string> {
  const links = new Map<string, string>();
  for (const { path, linkTo } of entries.values()) if (linkTo !== undefined) links.set(path, linkTo);
  return links;
}

function artifactEntry({ path, header, linkTo }: ScannedEntry, linked: ReadonlySet<string>): ArtifactEntry {
  const { type, sizeBytes, attributes, linkTarget, device } = header;
  const linkGroup = linkTo ?? (linked.has(path) ? path : undefined);
  return {
    path,
    type: type === 'link' ? 'file' : type,
    sizeBytes,
    attributes,
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(linkGroup === undefined ? {} : { linkGroup }),
    ...(device === undefined ? {} : { device }),
  };
}
