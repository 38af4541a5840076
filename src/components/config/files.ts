import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { TarsError, toTarsError } from '../../model/errors.ts';
import type { ArtifactAttributes } from '../../ports/artifacts.ts';
import { attributesOf } from '../paths/file-bytes.ts';

/** Configuration is text that people write; more than this is something else in the wrong list. */
export const configBytesMax = 16 * 2 ** 20;

/** A configuration file as it was at one moment. */
export interface ConfigFile {
  /** Absolute, as configured. */
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly attributes: ArtifactAttributes;
}

/**
 * Reads all files, through links, together at most {@link configBytesMax}.
 * @throws TarsError `capture-failed` naming the file that is too large or no regular file
 * @throws TarsError naming the file that cannot be read
 */
export async function readConfigFiles(paths: readonly string[], signal: AbortSignal): Promise<ConfigFile[]> {
  const files: ConfigFile[] = [];
  let totalBytes = 0;
  for (const path of paths) {
    const file = await readConfigFile(path, configBytesMax - totalBytes, signal);
    totalBytes += file.bytes.byteLength;
    files.push(file);
  }
  return files;
}

async function readConfigFile(path: string, bytesMax: number, signal: AbortSignal): Promise<ConfigFile> {
  // Without O_NONBLOCK a named pipe in the list would block here for ever.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw toTarsError(error, `Cannot read the configuration file ${path}`);
  });
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) {
      throw new TarsError('capture-failed', `Cannot capture ${path}: it is not a regular file`, {
        hint: 'List single files under files: in tars.yaml.',
      });
    }
    const tooLarge = (): TarsError =>
      new TarsError(
        'capture-failed',
        `Cannot capture ${path}: with it the configuration exceeds ${configBytesMax} bytes`,
        { hint: 'List only configuration under files: in tars.yaml, not data.' },
      );
    if (stats.size > BigInt(bytesMax)) throw tooLarge();
    const bytes = await handle.readFile({ signal });
    if (bytes.byteLength > bytesMax) throw tooLarge();
    return { path, bytes, attributes: attributesOf(stats) };
  } catch (error) {
    throw toTarsError(error, `Cannot read the configuration file ${path}`);
  } finally {
    await handle.close();
  }
}

/** A file's bytes as text and back: UTF-8 or UTF-16 where they are, otherwise byte for character. */
interface DecodedText {
  readonly text: string;
  readonly encode: (text: string) => Uint8Array;
}

/** Never fails: what is neither UTF-8 nor UTF-16 is taken for Latin-1, which has a character for every byte. */
export function decodeText(bytes: Uint8Array): DecodedText {
  const order = utf16Order(bytes);
  if (order !== undefined) {
    const swapped = (from: Buffer): Buffer => (order === 'big' ? Buffer.from(from).swap16() : from);
    return {
      text: swapped(Buffer.from(bytes)).toString('utf16le'),
      encode: (changed) => swapped(Buffer.from(changed, 'utf16le')),
    };
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return { text, encode: (changed) => Buffer.from(changed, 'utf8') };
  } catch {
    return {
      text: Buffer.from(bytes).toString('latin1'),
      encode: (changed) => Buffer.from(changed, 'latin1'),
    };
  }
}

/**
 * Windows writes UTF-16 with a byte order mark or without; every other byte of plain text is zero then. The mark alone
 * proves nothing: a text of single bytes may begin with the same two.
 */
export function utf16Order(bytes: Uint8Array): 'little' | 'big' | undefined {
  if (bytes.byteLength % 2 === 1) return undefined;
  const sample = bytes.subarray(0, 4096);
  const zeros = [0, 1].map((side) => sample.filter((byte, i) => byte === 0 && i % 2 === side).length);
  const [even = 0, odd = 0] = zeros;
  const mark = (bytes[0] ?? 0) * 256 + (bytes[1] ?? 0);
  const isMarked = mark === 0xfffe || mark === 0xfeff;
  const many = sample.byteLength / (isMarked ? 16 : 4);
  if (odd > many && even === 0 && mark !== 0xfeff) return 'little';
  return even > many && odd === 0 && mark !== 0xfffe ? 'big' : undefined;
}

/** Where a file lies below a folder of the snapshot: its path without the leading slash. */
export const pathInSnapshot = (path: string): string => path.replace(/^\/+/, '');
