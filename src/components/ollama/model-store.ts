import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import { isThere, statIfThere } from '../../disk/is-there.ts';
import { ConfigurationError, hasErrno, isSystemError, messageOf, toTarsError } from '../../model/errors.ts';

/**
 * A manifest as Ollama stores it (`types.go`/`layer.go` of ollama/ollama): a Docker schema 2 manifest whose layers
 * may say `from`, the model they were taken over from by `ollama create`.
 */
const manifestSchema = z.object({
  config: z.object({ digest: z.string(), size: z.number().int().nonnegative() }),
  layers: z
    .array(
      z.object({
        digest: z.string(),
        size: z.number().int().nonnegative(),
        from: z.string().optional(),
      }),
    )
    .nullable()
    .transform((layers) => layers ?? []),
});

/** `sha256:<hex>` in manifests, `sha256-<hex>` as a file name. */
const digestPattern = /^sha256[:-]([0-9a-f]{64})$/;

/** Hosts that `ollama pull` can fetch from without further arrangements. */
const pullableHosts: ReadonlySet<string> = new Set(['registry.ollama.ai', 'hf.co', 'huggingface.co']);

/** `<host>/<namespace>/<model>/<tag>`. */
export const manifestDepth = 4;

/** What a path segment of a manifest may look like; keeps paths taken from a snapshot inside the store. */
const segmentPattern = /^[^/\0]+$/;

/** A file that models refer to, and may share. */
export interface ModelBlob {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** A model of the store, as its manifest describes it. */
export interface Model {
  /** As `ollama list` shows it, such as `llama3:8b`. */
  readonly name: string;
  /** Relative to `manifests/`: `<host>/<namespace>/<model>/<tag>`. */
  readonly path: string;
  readonly manifest: Uint8Array;
  /** SHA-256 of the manifest's bytes, which is what Ollama calls the model's digest. */
  readonly digest: string;
  /** Distinct blobs in the manifest's order. */
  readonly blobs: readonly ModelBlob[];
  readonly origin: 'pulled' | 'local';
}

/** A manifest that is there but describes no model, or a directory of manifests that cannot be read. */
export interface BrokenModel {
  /** Of the model, or what it is: `the directory manifests/registry.ollama.ai`. */
  readonly name: string;
  /** Relative to `manifests/`; empty for that directory itself. */
  readonly path: string;
  readonly reason: string;
  /** It could not be read, so its kind is unknown. */
  readonly unread?: true;
}

/** What a store holds, with the manifests that are there but describe no model. */
export interface ModelListing {
  readonly models: readonly Model[];
  readonly broken: readonly BrokenModel[];
}

/** The name of a blob in `blobs/`, as Ollama gives it. */
export const blobFileName = (sha256: string): string => `sha256-${sha256}`;

/** The short form people type: defaults of host and namespace are left out. */
export function modelName(path: string): string {
  const [host = '', namespace = '', model = '', tag = ''] = path.split('/');
  const name = `${model}:${tag}`;
  if (host !== 'registry.ollama.ai') return `${host}/${namespace}/${name}`;
  return namespace === 'library' ? name : `${namespace}/${name}`;
}

/** True for `<host>/<namespace>/<model>/<tag>` that stays inside `manifests/`. */
export function isManifestPath(path: string): boolean {
  const segments = path.split('/');
  return (
    segments.length === manifestDepth &&
    segments.every((s) => segmentPattern.test(s) && s !== '.' && s !== '..')
  );
}

/**
 * Whether the model could be pulled again. Three marks of a local one: a host nobody pulls from; a layer taken over
 * `from` another model; a newline at the end, which `ollama create` writes (Go's `json.Encoder`) and a pulled
 * manifest never has (`json.Marshal`, or the registry's own bytes). A pulled model copied to another name counts as
 * pulled: its blobs are those of the original.
 */
function originOf(path: string, manifest: Uint8Array, takenOver: boolean): 'pulled' | 'local' {
  const host = path.split('/')[0] ?? '';
  const written = manifest.at(-1) === 0x0a;
  return pullableHosts.has(host) && !takenOver && !written ? 'pulled' : 'local';
}

/** Parses one manifest. Anything that is none gives a {@link BrokenModel}: Ollama writes them in place. */
export function parseManifest(path: string, bytes: Uint8Array): Model | BrokenModel {
  const name = modelName(path);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return { name, path, reason: 'its manifest is not JSON' };
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) return { name, path, reason: 'its manifest has no config and layers' };
  const blobs = new Map<string, ModelBlob>();
  for (const { digest, size } of [...parsed.data.layers, parsed.data.config]) {
    const sha256 = digestPattern.exec(digest)?.[1];
    if (sha256 === undefined) return { name, path, reason: `its manifest has the digest ${digest}` };
    blobs.set(sha256, { sha256, sizeBytes: size });
  }
  const takenOver = parsed.data.layers.some(({ from }) => from !== undefined && from !== '');
  return {
    name,
    path,
    manifest: bytes,
    digest: createHash('sha256').update(bytes).digest('hex'),
    blobs: [...blobs.values()],
    origin: originOf(path, bytes, takenOver),
  };
}

/** The names in a directory below `manifests/`, or what keeps them from being read. */
async function namesIn(base: string, path: string): Promise<readonly string[] | BrokenModel> {
  const directory = join(base, path);
  try {
    return (await readdir(directory)).filter((name) => !name.startsWith('.')).sort();
  } catch (error) {
    // It was removed since it was listed, or there are no models at all.
    if (hasErrno(error, 'ENOENT') && !(await isThere(directory))) return [];
    if (hasErrno(error, 'ENOTDIR')) return strayFile(path);
    if (!isSystemError(error)) throw toTarsError(error, `Cannot list ${directory}`);
    return {
      ...{ name: `the directory ${below(path)}`, path },
      ...{ reason: `it cannot be listed: ${messageOf(error)}`, unread: true },
    };
  }
}

const below = (path: string): string => posix.join('manifests', path);

/** A file where only directories belong. No model can be in it, except that all of them are behind `manifests`. */
export const strayFile = (path: string): BrokenModel => ({
  ...{ name: `the file ${below(path)}`, path, reason: 'Ollama keeps a directory there, not a file' },
  ...(path === '' ? { unread: true } : {}),
});

/** Something else where a model's manifest belongs. */
export const noManifest = (path: string, what: string): BrokenModel => ({
  ...{ name: modelName(path), path, reason: `its manifest is ${what}`, unread: true },
});

const isDirectory = async (path: string): Promise<boolean> =>
  (await statIfThere(path))?.isDirectory() === true;

/**
 * Refuses a directory that is no model store, so that a wrong path or an unmounted volume is not captured as an
 * empty one.
 * @throws ConfigurationError
 */
export async function requireModelStore(root: string): Promise<void> {
  if ((await isDirectory(join(root, 'manifests'))) || (await isDirectory(join(root, 'blobs')))) return;
  const inside = await isDirectory(join(root, 'models', 'manifests'));
  throw new ConfigurationError(
    `${root} is not an Ollama model directory: it has neither manifests nor blobs`,
    {
      hint: inside
        ? `Set path to ${join(root, 'models')}.`
        : 'Set path to the directory that OLLAMA_MODELS names (~/.ollama/models unless changed), and check that it is mounted.',
    },
  );
}

/** Reads every manifest's bytes: the state of the store at this moment. Empty when there is no store. */
export async function readModels(root: string, signal: AbortSignal): Promise<ModelListing> {
  const base = join(root, 'manifests');
  const broken: BrokenModel[] = [];
  let paths: readonly string[] = [''];
  for (let level = 0; level < manifestDepth; level++) {
    const inside: string[] = [];
    for (const path of paths) {
      const names = await namesIn(base, path);
      if (isNames(names)) inside.push(...names.map((name) => posix.join(path, name)));
      else broken.push(names);
    }
    paths = inside;
  }
  const read = await Promise.all(paths.map((path) => readManifest(base, path, signal)));
  return listing([...broken, ...read.filter((entry) => entry !== undefined)]);
}

// What Array.isArray makes of a readonly array is any.
const isNames = (names: readonly string[] | BrokenModel): names is readonly string[] => Array.isArray(names);

/** Opening a pipe would wait for its other end. */
const withoutWaiting = constants.O_RDONLY | constants.O_NONBLOCK;

/** Undefined when it was removed since it was listed. */
async function readManifest(
  base: string,
  path: string,
  signal: AbortSignal,
): Promise<Model | BrokenModel | undefined> {
  const file = join(base, path);
  try {
    return parseManifest(path, await readFile(file, { flag: withoutWaiting, signal }));
  } catch (error) {
    if (hasErrno(error, 'EISDIR')) return noManifest(path, 'a directory');
    if (hasErrno(error, 'ENOENT') && !(await isThere(file))) return undefined;
    if (signal.aborted || !isSystemError(error))
      throw toTarsError(error, `Cannot read the manifest of ${modelName(path)}`);
    const reason = `its manifest cannot be read: ${messageOf(error)}`;
    return { name: modelName(path), path, reason, unread: true };
  }
}

/** Sorts what was read of a store. */
export function listing(entries: readonly (Model | BrokenModel)[]): ModelListing {
  return {
    models: entries.filter((entry) => 'manifest' in entry),
    broken: entries.filter((entry) => 'reason' in entry),
  };
}

/** Whether the model at `path` is, or lies in, what could not be read. */
export const isBehind = (path: string, broken: BrokenModel): boolean =>
  broken.path === '' || path === broken.path || path.startsWith(`${broken.path}/`);
