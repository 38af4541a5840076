import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import { encodeGoJson } from './go-json.ts';
import { formatGoTime, parseGoOffset, parseGoTime } from './go-time.ts';

/** A snapshot file (restic `doc/design.rst`, "Snapshots"). */
export interface SnapshotFile {
  readonly timeNs: bigint;
  /** The clock `timeNs` was read from, which retention counts days by; absent for UTC. */
  readonly utcOffsetMinutes?: number;
  readonly parent?: string;
  /** The root tree. */
  readonly tree: string;
  readonly paths: readonly string[];
  readonly hostname: string;
  readonly username: string;
  readonly uid: number;
  readonly gid: number;
  readonly tags: readonly string[];
  readonly programVersion?: string;
  readonly summary?: SnapshotSizes;
}

/** What restic's member `summary` (from 0.17 on) and we know of a snapshot; restic's other members are left out. */
interface SnapshotSizes {
  /** Bytes of the packs it added. */
  readonly addedBytes?: number | undefined;
  /** Bytes of all its files. */
  readonly processedBytes?: number | undefined;
}

const idSchema = z.string().regex(/^[0-9a-f]{64}$/);
const snapshotSchema = z.object({
  time: z.string(),
  parent: idSchema.optional(),
  tree: idSchema,
  paths: z.array(z.string()).nullish(),
  hostname: z.string().default(''),
  username: z.string().default(''),
  uid: z.number().int().default(0),
  gid: z.number().int().default(0),
  tags: z.array(z.string()).nullish(),
  program_version: z.string().optional(),
  // Nothing but figures for people: whatever is odd in them, the snapshot is good.
  summary: z
    .object({ data_added_packed: z.number().optional(), total_bytes_processed: z.number().optional() })
    .optional()
    .catch(undefined),
});

/** In the order of restic's struct, empty members left out. */
export function encodeSnapshot(snapshot: SnapshotFile): string {
  return encodeGoJson({
    time: formatGoTime(snapshot.timeNs, snapshot.utcOffsetMinutes),
    parent: snapshot.parent,
    tree: snapshot.tree,
    paths: snapshot.paths,
    hostname: snapshot.hostname || undefined,
    username: snapshot.username || undefined,
    uid: snapshot.uid || undefined,
    gid: snapshot.gid || undefined,
    tags: snapshot.tags.length > 0 ? snapshot.tags : undefined,
    program_version: snapshot.programVersion,
    summary: snapshot.summary && {
      data_added_packed: snapshot.summary.addedBytes,
      total_bytes_processed: snapshot.summary.processedBytes,
    },
  });
}

/** Unknown members are ignored. @throws CorruptionError when it is no snapshot */
export function decodeSnapshot(json: string, name: string): SnapshotFile {
  let parsed: z.infer<typeof snapshotSchema>;
  try {
    parsed = snapshotSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new CorruptionError(`Snapshot ${name} is not valid`, { cause });
  }
  const utcOffsetMinutes = parseGoOffset(parsed.time);
  return {
    timeNs: parseGoTime(parsed.time),
    ...(utcOffsetMinutes === 0 ? {} : { utcOffsetMinutes }),
    ...(parsed.parent === undefined ? {} : { parent: parsed.parent }),
    tree: parsed.tree,
    paths: parsed.paths ?? [],
    hostname: parsed.hostname,
    username: parsed.username,
    uid: parsed.uid,
    gid: parsed.gid,
    tags: parsed.tags ?? [],
    ...(parsed.program_version === undefined ? {} : { programVersion: parsed.program_version }),
    ...(parsed.summary === undefined ? {} : { summary: sizesOf(parsed.summary) }),
  };
}

function sizesOf({
  data_added_packed: addedBytes,
  total_bytes_processed: processedBytes,
}: NonNullable<z.infer<typeof snapshotSchema>['summary']>): SnapshotSizes {
  return { addedBytes, processedBytes };
}
