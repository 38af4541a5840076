import { closeSync, constants, readFileSync } from 'node:fs';
import { z } from 'zod';
import type { OpenDirectory } from '../../disk/open-directory.ts';
import { writeWhole } from '../../disk/write-whole.ts';
import { CorruptionError, hasErrno } from '../../model/errors.ts';
import type { ArtifactAttributes } from '../../ports/artifacts.ts';

const attributesSchema = z.object({
  mode: z.number(),
  uid: z.number(),
  gid: z.number(),
  mtimeNs: z.string(),
  extended: z.array(z.object({ name: z.string(), value: z.string() })),
});

const noteSchema = z.object({
  /** The tree's own directory moves. */
  whole: z.boolean(),
  /** There was something in its place. */
  hadLive: z.boolean(),
  /** Otherwise, the directories that stay themselves, parents first. */
  directories: z.array(
    z.object({
      /** Relative to the tree; empty for its own. */
      path: z.string(),
      /** Names in it that stay. */
      keep: z.array(z.string()),
      before: attributesSchema,
    }),
  ),
});

/** How a tree is exchanged, as it is written beside it before anything moves. */
export type ExchangeNote = z.infer<typeof noteSchema>;

const incomingSchema = z.array(
  z.object({
    path: z.string(),
    names: z.array(z.string()),
    /** Absent for a directory that the snapshot lacks. */
    after: attributesSchema.optional(),
  }),
);

/** What comes into each directory that stays, and what becomes of that. */
export type Incoming = z.infer<typeof incomingSchema>;

export const noteName = 'exchange.json';
export const incomingName = 'incoming.json';

/** Undefined before it was written. @throws CorruptionError */
export const readNote = (directory: OpenDirectory): Promise<ExchangeNote | undefined> =>
  read(directory, noteName, noteSchema);

/** Undefined until everything that was live is aside. @throws CorruptionError */
export const readIncoming = (directory: OpenDirectory): Promise<Incoming | undefined> =>
  read(directory, incomingName, incomingSchema);

// eslint-disable-next-line @typescript-eslint/require-await -- errors are rejections
async function read<T>(directory: OpenDirectory, name: string, schema: z.ZodType<T>): Promise<T | undefined> {
  let descriptor: number;
  try {
    descriptor = directory.openFile(name, constants.O_RDONLY);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const parsed = schema.safeParse(JSON.parse(readFileSync(descriptor, 'utf8')));
    if (parsed.success) return parsed.data;
    throw new CorruptionError(`The note ${name} of a restore cannot be read`, { cause: parsed.error });
  } finally {
    closeSync(descriptor);
  }
}

/** Whole or not at all, also after a power cut. @param directory nobody but this user and root can enter it */
export async function writeNote(
  directory: OpenDirectory,
  name: string,
  note: ExchangeNote | Incoming,
): Promise<void> {
  await writeWhole(directory, name, JSON.stringify(note));
}

export const encodeAttributes = (attributes: ArtifactAttributes): z.infer<typeof attributesSchema> => ({
  ...{ mode: attributes.mode, uid: attributes.uid, gid: attributes.gid },
  mtimeNs: attributes.mtimeNs.toString(),
  extended: (attributes.extended ?? []).map(({ name, value }) => ({
    name,
    value: Buffer.from(value).toString('base64'),
  })),
});

export const decodeAttributes = ({
  mtimeNs,
  extended,
  ...owner
}: z.infer<typeof attributesSchema>): ArtifactAttributes => ({
  ...owner,
  mtimeNs: BigInt(mtimeNs),
  extended: extended.map(({ name, value }) => ({ name, value: Buffer.from(value, 'base64') })),
});
