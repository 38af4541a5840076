import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { throwIfAborted } from '../model/abort.ts';
import { CorruptionError, TarsError } from '../model/errors.ts';
import { manifestMaxBytes } from '../model/limits.ts';
import { decodeManifest, manifestPath, type Manifest } from '../model/manifest.ts';
import { oneChunk } from './bodies.ts';
import type { ArchiveCompression } from './compression.ts';
import { blockBytes, endOfArchiveBytes } from './tar-format.ts';
import { readTar } from './tar-read.ts';

/** With headers and padding; what does not compress may even grow. */
const memberMaxBytes = manifestMaxBytes + (2 << 20);
/** Most manifests are found in the first. */
const windowBytes = [64 << 10, 1 << 20, 16 << 20, memberMaxBytes];

/** Where a member that ends the archive may begin, counted from the start of `tail`, the last place first. */
type Candidates = (tail: Buffer) => Iterable<number>;

function* occurrences(tail: Buffer, magic: Buffer): Iterable<number> {
  for (let at = tail.lastIndexOf(magic); at >= 0; at = at === 0 ? -1 : tail.lastIndexOf(magic, at - 1))
    yield at;
}

/** RFC 1952: ID1, ID2, deflate. */
const gzipMagic = Buffer.from([0x1f, 0x8b, 0x08]);
/** RFC 8878. */
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const ustar = Buffer.from('ustar');
const limit = { maxOutputLength: memberMaxBytes };

const members: Readonly<
  Record<ArchiveCompression, { readonly candidates: Candidates; readonly unpack: (member: Buffer) => Buffer }>
> = {
  gzip: {
    candidates: (tail) => occurrences(tail, gzipMagic),
    unpack: (member) => gunzipSync(member, limit),
  },
  zstd: {
    candidates: (tail) => occurrences(tail, zstdMagic),
    unpack: (member) => zstdDecompressSync(member, limit),
  },
  none: {
    *candidates(tail) {
      // The file is made of whole blocks, so they are counted from its end.
      for (let at = tail.length - endOfArchiveBytes - 2 * blockBytes; at >= 0; at -= blockBytes) {
        // Only the manifest's header is known by its place; a pax header comes before it, which has its hash.
        const isPax = tail[at + 156] === 0x78 && tail.subarray(at + 257, at + 262).equals(ustar);
        if (isPax) yield at;
      }
    },
    unpack: (member) => member,
  },
};

/**
 * The manifest of an archive, read from its end alone: it is the last entry, compressed by itself, and the header
 * before it has its hash. Undefined when the file does not end like an archive that tars wrote as `root`.
 */
export async function readLastManifest(
  file: FileHandle,
  { root, compression }: { readonly root: string; readonly compression: ArchiveCompression },
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  const { size } = await file.stat();
  for (const wantedBytes of windowBytes) {
    throwIfAborted(signal);
    const lengthBytes = Math.min(size, wantedBytes);
    const tail = Buffer.alloc(lengthBytes);
    await file.read(tail, 0, lengthBytes, size - lengthBytes);
    const { candidates, unpack } = members[compression];
    for (const at of candidates(tail)) {
      const member = attempt(() => unpack(tail.subarray(at)));
      // The first that can be unpacked is the last member, whatever it is.
      if (member !== undefined) return manifestIn(member, root);
    }
    if (lengthBytes === size) return undefined;
  }
  return undefined;
}

/** Bytes that look like a beginning are found in the midst of anything. */
function attempt(unpack: () => Buffer): Buffer | undefined {
  try {
    return unpack();
  } catch {
    return undefined;
  }
}

async function manifestIn(member: Buffer, root: string): Promise<Manifest | undefined> {
  try {
    for await (const { header, body } of readTar(oneChunk(member))) {
      if (header.name !== `${root}/${manifestPath}`) return undefined;
      const bytes = Buffer.concat(await Array.fromAsync(body));
      const isIntact = createHash('sha256').update(bytes).digest('hex') === header.sha256;
      return isIntact ? decodeManifest(bytes, root) : undefined;
    }
    return undefined;
  } catch (error) {
    if (error instanceof CorruptionError) return undefined;
    if (error instanceof TarsError && error.code === 'unsupported-version') return undefined;
    throw error;
  }
}
