import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import {
  artifactListPath,
  decodeArtifactLine,
  isArtifactList,
  LineSplitter,
} from '../model/artifact-list.ts';
import { CorruptionError, hasErrno, isSystemError, TarsError, toTarsError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import { manifestMaxBytes } from '../model/limits.ts';
import { decodeManifest, manifestPath, type Manifest, type ManifestArtifact } from '../model/manifest.ts';
import type { Bytes } from '../ports/artifacts.ts';
import { decompressor, detectCompression, magicBytes } from './compression.ts';
import { EntryCount } from './limits.ts';
import { parentsOf, splitEntryName } from './names.ts';
import type { TarHeader } from './tar-format.ts';
import { readTar, type TarEntry } from './tar-read.ts';
import { cutAtFrames } from './zstd-frames.ts';

/** A report of more is of no use. */
const findingsMax = 1000;

/** One entry as found, its path relative to the archive's root. A further name of a file has that file's header. */
export interface ScannedEntry {
  readonly header: TarHeader;
  readonly path: string;
  /** Of files only. */
  readonly sha256: string | undefined;
  /** The path of the file of which this is a further name. */
  readonly linkTo?: string;
  /** The list of artifacts that has it. */
  readonly listedIn?: string;
}

/** What one pass over an archive tells. */
export interface ScannedArchive {
  /** The folder everything lies in. */
  readonly root: string;
  readonly manifest: Manifest;
  /** By path, the manifest included, the root itself left out. */
  readonly entries: ReadonlyMap<string, ScannedEntry>;
  /** Artifacts missing, different from the manifest, or unknown to it. Empty for a sound archive. */
  readonly findings: readonly Finding[];
}

/** Takes a file's bytes in passing. It must read `body` to its end. */
export type TakeFile = (path: string, sizeBytes: number, body: Bytes, signal: AbortSignal) => Promise<void>;

/**
 * Reads an archive once from start to end, hashing everything, and compares it with its manifest.
 * @throws CorruptionError when its structure is damaged; what merely differs is among the findings
 */
export async function scanArchive(
  file: string,
  take: TakeFile,
  signal: AbortSignal,
): Promise<ScannedArchive> {
  const collector = new Collector(file, take, signal);
  await eachEntry(file, (entry) => collector.add(entry), signal);
  return collector.finish();
}

async function eachEntry(
  file: string,
  visit: (entry: TarEntry) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const compression = detectCompression(await firstBytes(file), file);
  const stored = createReadStream(file, { highWaterMark: 1 << 18 });
  try {
    await pipeline(
      compression === 'zstd' ? Readable.from(cutAtFrames(stored)) : stored,
      decompressor(compression),
      async (bytes: Bytes) => {
        for await (const entry of readTar(bytes)) await visit(entry);
      },
      { signal },
    );
  } catch (error) {
    throw readError(error, file);
  }
}

async function firstBytes(file: string): Promise<Buffer> {
  try {
    const handle = await open(file);
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(magicBytes), 0, magicBytes, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (hasErrno(cause, 'EISDIR')) {
      throw new CorruptionError(`${file} is a directory, not an archive`, {
        hint: 'Name a tars-backup-… file in it.',
      });
    }
    throw toTarsError(cause, `Cannot read ${file}`);
  }
}

/** Decompressors report damage as errors of their own (`Z_…`, `ZSTD_…`, `ERR_…`). */
function readError(error: unknown, file: string): TarsError {
  if (error instanceof CorruptionError) {
    return new CorruptionError(`${error.message} (${file})`, {
      hint: error.hint ?? 'Use another copy of the archive, or another backup.',
      cause: error,
    });
  }
  if (isSystemError(error) && /^(Z_|ZSTD_|ERR_)/.test(error.code ?? '')) {
    return new CorruptionError(`${file} cannot be decompressed: ${error.message}`, {
      hint: 'Use another copy of the archive, or another backup.',
      cause: error,
    });
  }
  return toTarsError(error, `Cannot read ${file}`);
}

interface Collected extends Omit<ScannedEntry, 'listedIn'> {
  listedIn?: string;
}

class Collector {
  readonly #file: string;
  readonly #take: TakeFile;
  readonly #signal: AbortSignal;
  readonly #entries = new Map<string, Collected>();
  /** What differs from the lists that passed, by list: the manifest, which comes last, says whose they are. */
  readonly #lists = new Map<string, Finding[]>();
  /** Whatever something lies below, whether it is an entry itself or not. */
  readonly #folders = new Set<string>();
  readonly #count = new EntryCount((message) => new CorruptionError(message));
  #root: string | undefined;
  #manifest: Manifest | undefined;

  constructor(file: string, take: TakeFile, signal: AbortSignal) {
    this.#file = file;
    this.#take = take;
    this.#signal = signal;
  }

  async add({ header, body }: TarEntry): Promise<void> {
    const { root, path } = splitEntryName(header.name);
    this.#root ??= root;
    if (root !== this.#root)
      throw new CorruptionError(`The archive has two roots, ${this.#root} and ${root}`);
    if (path === '' && header.type === 'directory') return;
    this.#requirePlace(path, header.type);
    this.#count.add(path, header);
    if (this.#manifest !== undefined) {
      throw new CorruptionError(`The archive continues after its manifest, with ${path}`);
    }
    if (header.type === 'link') {
      this.#entries.set(path, this.#linked(path, header));
      return;
    }
    const sha256 = header.type === 'file' ? await this.#takeFile(path, header, body) : undefined;
    this.#entries.set(path, { header, path, sha256 });
  }

  #linked(path: string, { linkTarget = '' }: TarHeader): ScannedEntry {
    const { root, path: linkTo } = splitEntryName(linkTarget);
    const file = this.#entries.get(linkTo);
    if (root !== this.#root || file?.header.type !== 'file' || file.linkTo !== undefined) {
      throw new CorruptionError(
        `The archive holds ${path} as a hard link to ${linkTarget}, which is no earlier file of the archive`,
        {
          hint: 'Do not restore from it unless you know who made it.',
        },
      );
    }
    return { ...file, path, linkTo };
  }

  #requirePlace(path: string, type: TarHeader['type']): void {
    if (path === '' || this.#entries.has(path)) {
      throw new CorruptionError(`The archive holds ${path || 'its root'} twice`);
    }
    const parents = parentsOf(path);
    const parent = parents.find(
      (each) => (this.#entries.get(each)?.header.type ?? 'directory') !== 'directory',
    );
    if (parent !== undefined) {
      throw new CorruptionError(`The archive holds ${path} below ${parent}, which is not a directory`);
    }
    if (type !== 'directory' && this.#folders.has(path)) {
      throw new CorruptionError(`The archive holds entries below ${path}, but ${path} is not a directory`);
    }
    for (const each of parents) this.#folders.add(each);
  }

  async #takeFile(path: string, header: TarHeader, body: Bytes): Promise<string> {
    const hash = createHash('sha256');
    const isManifest = path === manifestPath;
    if (isManifest && header.sizeBytes > manifestMaxBytes) {
      throw new CorruptionError(`The manifest of the archive claims ${header.sizeBytes} bytes`);
    }
    const kept: Uint8Array[] = [];
    const list = isArtifactList(path) ? new LineSplitter(path) : undefined;
    const take = (chunk: Uint8Array): void => {
      hash.update(chunk);
      if (isManifest) kept.push(chunk);
      for (const line of list?.push(chunk) ?? []) this.#takeLine(path, line);
    };
    const hashed = async function* (): Bytes {
      for await (const chunk of body) {
        take(chunk);
        yield chunk;
      }
    };
    await this.#take(path, header.sizeBytes, hashed(), this.#signal);
    list?.end();
    const sha256 = hash.digest('hex');
    if (isManifest) {
      if (header.sha256 !== sha256) throw new CorruptionError('The manifest of the archive is damaged');
      this.#manifest = decodeManifest(Buffer.concat(kept), this.#file);
    }
    return sha256;
  }

  /** A list comes behind everything that it lists. */
  #takeLine(list: string, line: Uint8Array): void {
    const artifact = decodeArtifactLine(line, list);
    const entry = this.#entries.get(artifact.path);
    const finding = difference(artifact, entry);
    if (entry) entry.listedIn = list;
    const findings = this.#lists.get(list) ?? [];
    this.#lists.set(list, findings);
    if (finding && findings.length < findingsMax) findings.push(finding);
  }

  finish(): ScannedArchive {
    if (this.#manifest === undefined || this.#root === undefined) {
      throw new CorruptionError(`${this.#file} has no manifest: it is truncated, or tars did not write it`, {
        hint: 'Use another copy of the archive, or another backup.',
      });
    }
    return {
      root: this.#root,
      manifest: this.#manifest,
      entries: this.#entries,
      findings: [...this.#differences(this.#manifest), ...unknownFiles(this.#manifest, this.#entries)],
    };
  }

  *#differences({ components }: Manifest): Iterable<Finding> {
    for (const { artifacts, artifactList } of components) {
      for (const artifact of [...artifacts, ...(artifactList ? [artifactList] : [])]) {
        const finding = difference(artifact, this.#entries.get(artifact.path));
        if (finding) yield finding;
      }
      if (artifactList) yield* this.#lists.get(artifactList.path) ?? [];
    }
  }
}

function difference(
  { path, sizeBytes, sha256 }: Pick<ManifestArtifact, 'path' | 'sizeBytes' | 'sha256'>,
  entry: ScannedEntry | undefined,
): Finding | undefined {
  const finding = (code: string, message: string): Finding => ({
    severity: 'error',
    subject: path,
    code,
    message,
  });
  if (entry?.sha256 === undefined) {
    return finding('artifact-missing', `The manifest lists ${path}, which the archive does not hold`);
  }
  if (entry.header.sizeBytes !== sizeBytes) {
    return finding(
      'artifact-damaged',
      `${path} has ${entry.header.sizeBytes} bytes, but the manifest records ${sizeBytes}`,
    );
  }
  return entry.sha256 === sha256
    ? undefined
    : finding('artifact-damaged', `${path} has SHA-256 ${entry.sha256}, but the manifest records ${sha256}`);
}

/** A component that failed, or a part of it, may have left artifacts which its manifest does not list; nothing else may. */
function* unknownFiles(manifest: Manifest, entries: ReadonlyMap<string, Collected>): Iterable<Finding> {
  const lists = new Set(manifest.components.flatMap(({ artifactList }) => artifactList?.path ?? []));
  const known = new Set([
    manifestPath,
    ...lists,
    ...manifest.components.flatMap((part) => part.artifacts.map(({ path }) => path)),
  ]);
  for (const entry of entries.values()) {
    const { path, header, listedIn } = entry;
    if (header.type !== 'file' || known.has(path) || isLeftover(entry, manifest)) continue;
    if (listedIn !== undefined && lists.has(listedIn)) continue;
    yield {
      severity: 'error',
      subject: path,
      code: 'artifact-unknown',
      message: `The archive holds ${path}, which its manifest does not list`,
    };
  }
}

/**
 * True for what lies in the folder of a component that failed, or a part of it, and is no artifact; and for the list of
 * one that failed.
 */
export function isLeftover(
  { path, listedIn }: Pick<ScannedEntry, 'path' | 'listedIn'>,
  manifest: Manifest,
): boolean {
  return manifest.components.some(({ name, outcome, incomplete, artifacts, artifactList }) => {
    if (outcome !== 'failed' && incomplete === undefined) return false;
    if (path === artifactListPath(name)) return artifactList === undefined;
    return (
      path.startsWith(`${name}/`) &&
      (listedIn === undefined || listedIn !== artifactList?.path) &&
      !artifacts.some((each) => each.path === path)
    );
  });
}
