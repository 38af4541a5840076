import { z } from 'zod';
import { CorruptionError, TarsError } from './errors.ts';
import { manifestMaxBytes } from './limits.ts';
import { counted } from './plural.ts';
import { notWholeTag } from './snapshot.ts';

/** The highest manifest schema version that this build writes and reads; readers refuse a higher one. */
export const manifestSchemaVersion = 2;

/** The manifest's path in every snapshot. It is written last. */
export const manifestPath = 'manifest.json';

const artifactSchema = z.object({
  /** Relative to the snapshot's root, `/`-separated, such as `postgres/tars_home.dump`. */
  path: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  /** SHA-256 of the whole artifact, lower-case hex. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** How the repository cut it (`fixed:65536`, `gear:16384`); absent in archives. */
  chunking: z.string().optional(),
});

/** Where the artifacts of a component are listed that has too many of them for one JSON document. */
const artifactListSchema = z.object({
  /** An artifact itself, `manifest.d/<component>.jsonl`: one artifact of {@link artifactSchema} a line, in the order of capture. */
  path: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Lines. */
  artifacts: z.number().int().nonnegative(),
  /** Bytes of all these artifacts together. */
  artifactBytes: z.number().int().nonnegative(),
});

/** What a captured component lacks: all are counted, some are named. */
const incompleteSchema = z.object({
  count: z.number().int().positive(),
  named: z.array(z.object({ path: z.string(), reason: z.string() })),
});

const componentErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
});

const componentSchema = z.object({
  name: z.string(),
  kind: z.string(),
  outcome: z.enum(['captured', 'failed']),
  error: componentErrorSchema.optional(),
  /** What is missing of a captured component; the rest restores. The snapshot is `partial` then. */
  incomplete: incompleteSchema.optional(),
  serverVersion: z.string().optional(),
  /** `cut` when the component's state is that of the snapshot's cut, `own` when it fixed a moment of its own. */
  pointInTime: z.enum(['cut', 'own']).optional(),
  /** How it was captured, such as `physical` or `logical`. */
  method: z.string().optional(),
  /** For how long the capture kept the store from accepting writes, in milliseconds. */
  writesBlockedMs: z.number().nonnegative().optional(),
  captureMs: z.number().nonnegative().optional(),
  /** What the component's own verification compares against; its schema belongs to the component. */
  facts: z.record(z.string(), z.unknown()),
  /** All of them, or none where {@link artifactList} has them. */
  artifacts: z.array(artifactSchema),
  artifactList: artifactListSchema.optional(),
});

const recordedServiceSchema = z.object({
  name: z.string(),
  /** Its container's name. */
  container: z.string(),
  /** As the Compose file names it, such as `postgres:15`. */
  image: z.string(),
  /** The image's own id, `sha256:…`. */
  imageId: z.string(),
  /** Under which registries have it, `postgres@sha256:…`; empty for an image that was built here. */
  repoDigests: z.array(z.string()),
  state: z.enum(['running', 'stopped', 'paused', 'unknown']),
  /** What its own health check said; absent without one. */
  health: z.enum(['starting', 'healthy', 'unhealthy']).optional(),
  /** Compose's digest of the definition that the container was created from. */
  configHash: z.string().optional(),
});

const ownershipSchema = z.object({ uid: z.number().int(), gid: z.number().int(), mode: z.number().int() });

const recordedVolumeSchema = z.object({
  name: z.string(),
  /** A service that has it. Up to 1.0.12 only services of components. */
  service: z.string(),
  driver: z.string(),
  labels: z.record(z.string(), z.string()),
  /** It has options of its driver, which may hold passwords and are not recorded. */
  hasOptions: z.boolean(),
  /** Its root directory's owner and mode. */
  root: ownershipSchema.optional(),
});

/** A network that the project uses and that Compose did not create for it. */
const recordedNetworkSchema = z.object({
  name: z.string(),
  /** Services that are in it. */
  services: z.array(z.string()),
  driver: z.string(),
  /** `local`, or `swarm` for one that only a swarm can have. */
  scope: z.string(),
  internal: z.boolean(),
  attachable: z.boolean(),
  ipv6: z.boolean(),
  options: z.record(z.string(), z.string()),
  labels: z.record(z.string(), z.string()),
  ranges: z.array(
    z.object({ subnet: z.string(), gateway: z.string().optional(), ipRange: z.string().optional() }),
  ),
  /** A service has a fixed address in it, so that the ranges must be these. */
  hasFixedAddress: z.boolean(),
});

/** A file or directory of the machine that services have mounted. */
const recordedBindSchema = z.object({
  path: z.string(),
  kind: z.enum(['file', 'directory']),
  services: z.array(z.string()),
  ...ownershipSchema.shape,
});

const composeRecordSchema = z.object({
  project: z.string(),
  /** Such as `2.26.1`. */
  composeVersion: z.string().optional(),
  workingDir: z.string().optional(),
  /** Absolute. */
  composeFiles: z.array(z.string()),
  /** Given with `--env-file`, absolute. */
  envFiles: z.array(z.string()),
  /** Names of variables of the Compose files that only a shell had, as no file defines them. */
  shellVariables: z.array(z.string()).optional(),
  services: z.array(recordedServiceSchema),
  volumes: z.array(recordedVolumeSchema),
  /** Absent up to 1.0.12, as {@link binds}. */
  networks: z.array(recordedNetworkSchema).optional(),
  /** Those that this machine could look at. */
  binds: z.array(recordedBindSchema).optional(),
});

const notCapturedSchema = z.object({
  subject: z.string(),
  reason: z.string(),
  /** For a mount of a service: what it is. */
  mount: z
    .object({
      service: z.string(),
      type: z.enum(['volume', 'bind', 'other']),
      /** The volume's name, or a path of the machine. */
      source: z.string(),
      /** The path in the container. */
      destination: z.string(),
    })
    .optional(),
  sizeBytes: z.number().int().nonnegative().optional(),
  /**
   * `missing`: a restore would not bring it back, and `tars.yaml` does not say that it need not. `left-out`: it need not
   * come back, by `leave_out` or because it is a cache. Absent where neither is meant, and up to 1.0.12.
   */
  status: z.enum(['missing', 'left-out']).optional(),
});

/** A component that `tars.yaml` does not name: it says `everything: true`, and the services have that place. */
const impliedSchema = z.object({
  component: z.string(),
  service: z.string(),
  /** The path in its container. */
  inside: z.string(),
  /** Patterns of what other components capture of it. Absent: none. */
  exclude: z.array(z.string()).optional(),
});

const manifestSchema = z.object({
  schemaVersion: z.number().int().positive(),
  stack: z.string(),
  toolVersion: z.string(),
  hostname: z.string(),
  /** The moment of the cut, RFC 3339 UTC. */
  time: z.string(),
  startedAt: z.string(),
  finishedAt: z.string(),
  /** `cut`: no writer could write while every component was marked. `per-store`: each has a moment of its own. */
  consistency: z.enum(['cut', 'per-store']),
  consistencyReason: z.string().optional(),
  writerPauseMs: z.number().nonnegative().optional(),
  /** `partial` when at least one component failed or is incomplete. */
  outcome: z.enum(['complete', 'partial']),
  components: z.array(componentSchema),
  /** Parts of the stack nothing captures, and components skipped on request. */
  notCaptured: z.array(notCapturedSchema),
  /** Those of {@link components} that come from `everything: true`; a restore finds their places by it. */
  implied: z.array(impliedSchema).optional(),
  /** Files that the first configuration component holds beside those of `tars.yaml`, by `everything: true`. Absolute. */
  impliedFiles: z.array(z.string()).optional(),
  /** The Compose project at the time of the capture, for a stack of Docker's. */
  compose: composeRecordSchema.optional(),
});

/** A file of the snapshot: its path from the root of the snapshot, length and SHA-256 of its bytes. */
export type ManifestArtifact = z.infer<typeof artifactSchema>;
/** What a snapshot holds of one component, or why it holds nothing of it. */
export type ComponentManifest = z.infer<typeof componentSchema>;
/** What could not be captured of a component whose other parts were. */
export type Incomplete = z.infer<typeof incompleteSchema>;
/** A part of the stack that is knowingly not in the snapshot, and why. */
export type NotCaptured = z.infer<typeof notCapturedSchema>;
/** A component of kind `files` that follows from `everything: true`, and where its directory is. */
export type ImpliedComponent = z.infer<typeof impliedSchema>;
/** The description that every snapshot carries of itself, at {@link manifestPath}: docs/FORMAT.md. */
export type Manifest = z.infer<typeof manifestSchema>;
/** The Compose project as it was at the capture, for creating it again on an empty machine. */
export type ComposeRecord = z.infer<typeof composeRecordSchema>;
/** One service of that project. */
export type RecordedService = z.infer<typeof recordedServiceSchema>;
/** One volume of that project. */
export type RecordedVolume = z.infer<typeof recordedVolumeSchema>;
/** See {@link recordedNetworkSchema}. */
export type RecordedNetwork = z.infer<typeof recordedNetworkSchema>;
/** See {@link recordedBindSchema}. */
export type RecordedBind = z.infer<typeof recordedBindSchema>;
/** Owner and mode of a file or directory. */
export type Ownership = z.infer<typeof ownershipSchema>;

/** The schema version of a manifest with these components: lists of artifacts came with the second. */
export function schemaVersionFor(components: readonly ComponentManifest[]): number {
  return components.some(({ artifactList }) => artifactList !== undefined) ? 2 : 1;
}

/**
 * The manifest as stored: stable key order, two-space indent, trailing newline.
 * @throws TarsError `capture-failed` when it is larger than any reader takes
 */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const bytes = new TextEncoder().encode(`${JSON.stringify(manifestSchema.parse(manifest), null, 2)}\n`);
  if (bytes.length <= manifestMaxBytes) return bytes;
  const sizes = manifest.components.map(({ name, facts }) => `${name} ${JSON.stringify(facts).length}`);
  throw new TarsError(
    'capture-failed',
    `The manifest has ${bytes.length} bytes; readers accept at most ${manifestMaxBytes}`,
    { hint: `Capture less in one component. The facts of each component, in bytes: ${sizes.join(', ')}.` },
  );
}

/** @throws ZodError when it is no artifact */
export function decodeArtifact(value: unknown): ManifestArtifact {
  return artifactSchema.parse(value);
}

/**
 * Parses a stored manifest. Unknown fields are ignored, so that older builds read what newer minor ones wrote.
 * @throws TarsError `unsupported-version` when its schema version is higher than this build knows
 * @throws CorruptionError when it is no manifest
 */
export function decodeManifest(bytes: Uint8Array, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CorruptionError(`The manifest of ${where} is not valid JSON`, { cause });
  }
  const version = z.object({ schemaVersion: z.number() }).safeParse(value);
  if (version.success && version.data.schemaVersion > manifestSchemaVersion) {
    throw new TarsError(
      'unsupported-version',
      `The manifest of ${where} has schema version ${version.data.schemaVersion}, this tars reads up to ${manifestSchemaVersion}`,
      { hint: 'Use the version of tars that wrote it, or a newer one.' },
    );
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    throw new CorruptionError(
      `The manifest of ${where} does not fit its schema: ${z.prettifyError(parsed.error)}`,
    );
  }
  return parsed.data;
}

/** What a restore of the snapshot would lack without anyone having said that it may. */
export const missingFrom = ({ notCaptured }: Pick<Manifest, 'notCaptured'>): readonly NotCaptured[] =>
  // Up to 1.0.12 every mount that no component captured was one.
  notCaptured.filter(
    ({ status, mount }) => status === 'missing' || (status === undefined && mount !== undefined),
  );

/** What tags say of a snapshot, so that a list of snapshots need not read their manifests. */
export const outcomeTags = (manifest: Pick<Manifest, 'outcome' | 'notCaptured'>): readonly string[] => [
  ...(manifest.outcome === 'partial' ? ['partial'] : []),
  ...(missingFrom(manifest).length > 0 ? [notWholeTag] : []),
];

/** How many entries a message names; the manifest names more. */
const namedMax = 10;

/** What a captured component lacks, as the end of a sentence that says so; undefined when it lacks nothing. */
export function describeIncomplete({
  incomplete,
}: Pick<ComponentManifest, 'incomplete'>): string | undefined {
  if (incomplete === undefined) return undefined;
  const { count, named } = incomplete;
  const shown = named.slice(0, namedMax).map(({ path, reason }) => `${path} (${reason})`);
  const more = count > shown.length ? ` and ${count - shown.length} more` : '';
  return `${counted(count, 'entry', 'entries')} could not be captured: ${shown.join(', ')}${more}`;
}
