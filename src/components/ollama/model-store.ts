import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
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

/** A manifest that is there but describes no model. */
export interface BrokenModel {
  readonly name: string;
  readonly path: string;
  readonly reason: string;
  /** It could not be read; what it is, nobody knows. */
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
  return segments.length === 4 && segments.every((s) => segmentPattern.test(s) && s !== '.' && s !== '..');
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

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => !name.startsWith('.')).sort();
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return [];
    throw toTarsError(error, `Cannot list ${directory}`);
  }
}

const isDirectory = async (path: string): Promise<boolean> => {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return false;
    throw toTarsError(error, `Cannot look at ${path}`);
  }
};

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
        : 'Set path to the directory OLLAMA_MODELS names (~/.ollama/models unless changed), and see that it is mounted.',
    },
  );
}

/** Reads every manifest's bytes: the state of the store at this moment. Empty when there is no store. */
export async function readModels(root: string, signal: AbortSignal): Promise<ModelListing> {
  const paths: string[] = [];
  const base = join(root, 'manifests');
  for (const host of await namesIn(base))
    for (const namespace of await namesIn(join(base, host)))
      for (const model of await namesIn(join(base, host, namespace)))
        for (const tag of await namesIn(join(base, host, namespace, model)))
          paths.push([host, namespace, model, tag].join('/'));
  const parsed = await Promise.all(
    paths.map(async (path) => {
      try {
        return parseManifest(path, await readFile(join(base, path), { signal }));
      } catch (error) {
        if (hasErrno(error, 'EISDIR') || hasErrno(error, 'ENOENT')) return undefined;
        if (signal.aborted || !isSystemError(error))
          throw toTarsError(error, `Cannot read the manifest of ${modelName(path)}`);
        const reason = `its manifest cannot be read: ${messageOf(error)}`;
        return { name: modelName(path), path, reason, unread: true } as const;
      }
    }),
  );
  return {
    models: parsed.filter((entry) => entry !== undefined && 'manifest' in entry),
    broken: parsed.filter((entry) => entry !== undefined && 'reason' in entry),
  };
}
