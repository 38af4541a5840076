import { createHmac, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, readFileSync } from 'node:fs';
import { z } from 'zod';
import { replaceDurablyIn } from '../../../disk/durable-file.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { CorruptionError, hasErrno } from '../../../model/errors.ts';
import type { ArtifactAttributes } from '../../../ports/artifacts.ts';

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

/** The notes of one exchange, in its previous directory. */
export class Notes {
  readonly #directory: OpenDirectory;
  readonly #key: string | undefined;
  readonly #where: string;

  /**
   * @param key of the journal, which nobody else reads; without one, nobody else may have entered the directory
   * @param where the path of the directory, for errors
   */
  constructor(directory: OpenDirectory, key: string | undefined, where: string) {
    this.#where = where;
    this.#directory = directory;
    this.#key = key;
  }

  /** Undefined before it was written. @throws CorruptionError */
  readNote(): Promise<ExchangeNote | undefined> {
    return this.#read(noteName, noteSchema);
  }

  /** Undefined until everything that was live is aside. @throws CorruptionError */
  readIncoming(): Promise<Incoming | undefined> {
    return this.#read(incomingName, incomingSchema);
  }

  /** Whole or not at all, also after a power cut. */
  writeNote(note: ExchangeNote): Promise<void> {
    return this.#write(noteName, note);
  }

  writeIncoming(incoming: Incoming): Promise<void> {
    return this.#write(incomingName, incoming);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- errors are rejections
  async #read<T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const text = this.#textOf(name);
    if (text === undefined) return undefined;
    const parsed = schema.safeParse(JSON.parse(this.#signed(name, text)));
    if (parsed.success) return parsed.data;
    throw new CorruptionError(`The note of a restore, ${this.#where}/${name}, cannot be read`, {
      cause: parsed.error,
    });
  }

  #textOf(name: string): string | undefined {
    let descriptor: number;
    try {
      descriptor = this.#directory.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    try {
      return readFileSync(descriptor, 'utf8');
    } finally {
      closeSync(descriptor);
    }
  }

  /** What the first line is the signature of. */
  #signed(name: string, text: string): string {
    if (this.#key === undefined) return text;
    const end = text.indexOf('\n');
    const body = text.slice(end + 1);
    const own = Buffer.from(this.#signatureOf(this.#key, name, body));
    const found = Buffer.from(text.slice(0, Math.max(0, end)));
    if (own.length === found.length && timingSafeEqual(own, found)) return body;
    throw new CorruptionError(
      `The note of a restore, ${this.#where}/${name}, is not the one that tars wrote: someone replaced it`,
      {
        hint: 'The previous data is beside it. Check it, then move it back by hand.',
      },
    );
  }

  #signatureOf(key: string, name: string, body: string): string {
    return createHmac('sha256', Buffer.from(key, 'base64')).update(`${name}\n${body}`).digest('hex');
  }

  async #write(name: string, note: ExchangeNote | Incoming): Promise<void> {
    const body = JSON.stringify(note);
    const key = this.#key;
    await replaceDurablyIn(
      this.#directory,
      name,
      key === undefined ? body : `${this.#signatureOf(key, name, body)}\n${body}`,
    );
  }
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
