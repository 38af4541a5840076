import { z } from 'zod';
import type { Finding } from '../../model/finding.ts';
import { CorruptionError, TarsError, withSubject } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import { DigestSum } from './rdb/part-hasher.ts';
import {
  readSeal,
  walkRdb,
  type RdbEnd,
  type RdbField,
  type RdbHeader,
  type RdbKey,
  type RdbVisitor,
} from './rdb/walk.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

const digestSchema = z.string().regex(/^[0-9a-f]{64}$/);
const tallySchema = z.object({ count: z.number().int().nonnegative(), digest: digestSchema });
type Tally = z.infer<typeof tallySchema>;

/**
 * What an RDB file holds, small enough for a manifest and exact enough to prove another file equal. What expires is
 * tallied in groups by when it does, because a comparison later has to leave out what has expired since.
 */
export const contentSchema = z.object({
  /** The server's clock when it wrote the file, in milliseconds since the Unix epoch; the groups count from here. */
  writtenAtMs: z.number().int(),
  databases: z.array(
    z.object({
      db: z.number().int(),
      keys: z.number().int(),
      /** Of these, keys with an expiry. */
      expiring: z.number().int(),
      /** Keys without an expiry (of a hash: its fields without one). */
      lasting: tallySchema,
    }),
  ),
  /** Keys by type. */
  types: z.record(z.string(), z.number().int()),
  /** Keys and hash fields with an expiry, by the start of the interval in which they go. */
  expiring: z.array(tallySchema.extend({ fromMs: z.number().int() })),
  expiringFields: z.number().int(),
  libraries: tallySchema,
  /** Values of modules by their type: the keys are compared, the values are not. */
  modules: z.record(z.string(), z.number().int()).optional(),
});
export type Content = z.infer<typeof contentSchema>;

/**
 * The start of the interval that `atMs` falls into: minutes in the first hour after `originMs`, hours in the first
 * two days, days in the first sixty, then all the rest. What is before `originMs` is one group as well.
 */
function intervalStart(atMs: number, originMs: number): number {
  const since = atMs - originMs;
  if (since < 0) return Number.MIN_SAFE_INTEGER;
  if (since >= 60 * dayMs) return originMs + 60 * dayMs;
  const width = since < hourMs ? minuteMs : since < 2 * dayMs ? hourMs : dayMs;
  return originMs + Math.floor(since / width) * width;
}

/** What {@link readContent} learned. */
export interface RdbContent {
  readonly end: RdbHeader & Pick<RdbEnd, 'checksum'>;
  /** Undefined where it cannot be read, though nothing speaks for damage. */
  readonly content: Content | undefined;
  /** Why it cannot be read, as a clause. */
  readonly unread?: string;
}

/** The newest formats whose every value {@link walkRdb} knows. */
const knownVersions = { REDIS: 12, VALKEY: 80 } as const;

/**
 * Walks a whole RDB file, verifying it, and tallies its content. What this build does not know is no reason to refuse
 * the file as long as its checksum fits.
 * @param open called once, and again for a file with something unknown in it
 * @param originMs where the intervals start; the time the file says it was written when undefined
 * @throws CorruptionError when it is damaged
 */
export async function readContent(
  open: () => Bytes,
  originMs: number | undefined,
  what: string,
): Promise<RdbContent> {
  const counting = new ContentTally(originMs);
  try {
    const end = await walkRdb(open(), counting);
    return { end, content: counting.content() };
  } catch (error) {
    // Of two errors the first is about the damage.
    const unread = await unreadOf(error, open).catch(() => undefined);
    if (unread !== undefined) return unread;
    throw withSubject(error, `Cannot read ${what}`);
  }
}

/** Undefined when the file is damaged, or cannot be read at all. */
async function unreadOf(error: unknown, open: () => Bytes): Promise<RdbContent | undefined> {
  const isUnknown = error instanceof TarsError && error.code === 'unsupported-version';
  if (!isUnknown && !(error instanceof CorruptionError)) return undefined;
  const { magic, version, checksum } = await readSeal(open());
  if (checksum === 'wrong') return undefined;
  const end = { magic, version, checksum };
  if (isUnknown) return { end, content: undefined, unread: error.message };
  // A newer format may give a known type another layout.
  const isNewer = version > knownVersions[magic] && checksum === 'verified';
  return isNewer
    ? { end, content: undefined, unread: `this tars does not know the ${magic} RDB version ${version}` }
    : undefined;
}

/** For warnings: what of a content no comparison sees; undefined for nothing. */
export function unseenOf({ modules = {} }: Content): string | undefined {
  const kinds = Object.entries(modules).map(
    ([type, count]) => `${counted(count, 'value')} of the module type ${type}`,
  );
  return kinds.length === 0 ? undefined : kinds.join(', ');
}

class ContentTally implements RdbVisitor {
  readonly #databases = new Map<number, { keys: number; expiring: number; lasting: DigestSum }>();
  readonly #types = new Map<string, number>();
  readonly #expiring = new Map<number, DigestSum>();
  readonly #libraries = new DigestSum();
  readonly #modules = new Map<string, number>();
  #expiringFields = 0;
  #originMs: number | undefined;

  constructor(originMs: number | undefined) {
    this.#originMs = originMs;
  }

  aux(name: string, value: string): void {
    if (name === 'ctime' && this.#originMs === undefined) this.#originMs = Number(value) * 1000;
  }

  key(key: RdbKey): void {
    const database = this.#database(key.db);
    database.keys++;
    this.#types.set(key.kind, (this.#types.get(key.kind) ?? 0) + 1);
    if (key.moduleType !== undefined) this.moduleData(key.moduleType);
    if (key.expireAtMs !== undefined) database.expiring++;
    // A hash that consists of expiring fields only exists exactly as long as one of them does.
    if (key.kind === 'hash' && key.elements === 0) return;
    if (key.expireAtMs === undefined) database.lasting.add(key.digest);
    else this.#interval(Number(key.expireAtMs)).add(key.digest);
  }

  field(field: RdbField): void {
    this.#expiringFields++;
    this.#interval(Number(field.goneAtMs)).add(field.digest);
  }

  library(digest: Buffer): void {
    this.#libraries.add(digest);
  }

  moduleData(type: string): void {
    this.#modules.set(type, (this.#modules.get(type) ?? 0) + 1);
  }

  content(): Content {
    const expiring = [...this.#expiring].sort(([a], [b]) => a - b);
    const databases = [...this.#databases].sort(([a], [b]) => a - b);
    return {
      writtenAtMs: this.#originMs ?? 0,
      databases: databases.map(([db, { keys, expiring: withExpiry, lasting }]) => ({
        db,
        keys,
        expiring: withExpiry,
        lasting: tallyOf(lasting),
      })),
      types: Object.fromEntries([...this.#types].sort()),
      expiring: expiring.map(([fromMs, sum]) => ({ fromMs, ...tallyOf(sum) })),
      expiringFields: this.#expiringFields,
      libraries: tallyOf(this.#libraries),
      ...(this.#modules.size === 0 ? {} : { modules: Object.fromEntries([...this.#modules].sort()) }),
    };
  }

  #database(db: number): { keys: number; expiring: number; lasting: DigestSum } {
    let database = this.#databases.get(db);
    if (database === undefined) {
      database = { keys: 0, expiring: 0, lasting: new DigestSum() };
      this.#databases.set(db, database);
    }
    return database;
  }

  #interval(atMs: number): DigestSum {
    const fromMs = intervalStart(atMs, this.#originMs ?? 0);
    let sum = this.#expiring.get(fromMs);
    if (sum === undefined) {
      sum = new DigestSum();
      this.#expiring.set(fromMs, sum);
    }
    return sum;
  }
}

const tallyOf = (sum: DigestSum): Tally => ({ count: sum.count, digest: sum.value().toString('hex') });

const nothing: Tally = tallyOf(new DigestSum());

/** Where one of both contents could not be read: nothing was compared. */
export const notCompared = (subject: string, why: string): Finding => ({
  severity: 'warning',
  subject,
  code: 'content-not-compared',
  message: `Its content could not be compared: ${why}`,
});

/**
 * Compares two contents tallied from the same origin.
 * @param nowMs what goes before this moment, or within its interval, is left out; undefined leaves out nothing
 * @param subject the component, for the findings
 */
export function compareContent(
  expected: Content,
  actual: Content,
  nowMs: number | undefined,
  subject: string,
): Finding[] {
  const findings: Finding[] = [];
  const report = (what: string, code: string, wanted: Tally, found: Tally): void => {
    if (wanted.count === found.count && wanted.digest === found.digest) return;
    const message =
      wanted.count === found.count
        ? `${what}: ${wanted.count} as captured, but their content differs`
        : `${what}: ${wanted.count} were captured, ${found.count} exist now`;
    findings.push({
      severity: 'error',
      subject,
      code: wanted.count === found.count ? `${code}-content-differs` : `${code}-count-differs`,
      message,
    });
  };
  const databases = new Set([...expected.databases, ...actual.databases].map(({ db }) => db));
  for (const db of [...databases].sort((a, b) => a - b)) {
    const of = (content: Content): Tally => content.databases.find((d) => d.db === db)?.lasting ?? nothing;
    report(`Keys of database ${db} without an expiry`, 'key', of(expected), of(actual));
  }
  report('Function libraries', 'library', expected.libraries, actual.libraries);
  const starts = new Set([...expected.expiring, ...actual.expiring].map(({ fromMs }) => fromMs));
  let leftOut = 0;
  for (const fromMs of [...starts].sort((a, b) => a - b)) {
    const of = (content: Content): Tally => content.expiring.find((e) => e.fromMs === fromMs) ?? nothing;
    if (nowMs !== undefined && fromMs <= nowMs) leftOut += of(expected).count;
    else
      report(
        `Keys and fields that expire in the interval from ${time(fromMs)}`,
        'expiring',
        of(expected),
        of(actual),
      );
  }
  const unseen = unseenOf(expected);
  if (unseen !== undefined) {
    const message = `The keys are compared, but not their values: ${unseen}`;
    findings.push({ severity: 'warning', subject, code: 'values-not-compared', message });
  }
  if (leftOut > 0) {
    findings.push({
      severity: 'info',
      subject,
      code: 'expired-not-compared',
      message: `Keys and fields not compared, because they have expired since the capture or are about to: ${leftOut}`,
    });
  }
  return findings;
}

const time = (ms: number): string =>
  ms === Number.MIN_SAFE_INTEGER ? 'before the capture' : new Date(ms).toISOString();
