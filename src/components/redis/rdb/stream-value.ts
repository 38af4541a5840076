import { CorruptionError } from '../../../model/errors.ts';
import { listpack } from './packed.ts';
import type { PartHasher } from './part-hasher.ts';
import type { RdbStrings } from './strings.ts';

/** Flags of a stream entry (`src/t_stream.c`). */
const deletedFlag = 1;
const sameFieldsFlag = 2;

const streamIdBytes = 16;
const timeBytes = 8;

/** The three layouts in which streams are saved, by what they added (`RDB_TYPE_STREAM_LISTPACKS*`). */
interface StreamLayout {
  /** First id, largest deleted id, entries ever added; groups know how many entries they read. Since Redis 7.0. */
  readonly withCounters: boolean;
  /** Consumers have a time of last success beside the time last seen. Since Redis 7.2. */
  readonly withActiveTime: boolean;
}

/**
 * Hashes what a stream means: entries in order, last id, counters, groups with their pending entries, consumers and
 * who owns what. Left out is what loading estimates anew or a look changes: when consumers were last seen, and how
 * far behind a group is.
 */
export async function hashStream(
  strings: RdbStrings,
  layout: StreamLayout,
  packedLimitBytes: number,
  hasher: PartHasher,
): Promise<void> {
  for (let left = await strings.length(); left > 0; left--) {
    const master = await strings.string(streamIdBytes);
    if (master.length !== streamIdBytes) throw strings.damaged('a stream node has no id');
    hashEntries(master, await strings.string(packedLimitBytes), hasher);
  }
  const length = await strings.length64();
  hasher.text('length');
  hasher.integer(length);
  await hashIntegers(strings, 2, hasher);
  if (layout.withCounters) {
    await strings.length64();
    await strings.length64();
    await hashIntegers(strings, 3, hasher);
  } else {
    // What a server that knows them assumes when it loads the older layout.
    for (const assumed of [0n, 0n, length]) hasher.integer(assumed);
  }
  for (let left = await strings.length(); left > 0; left--) await hashGroup(strings, layout, hasher);
}

async function hashIntegers(strings: RdbStrings, count: number, hasher: PartHasher): Promise<void> {
  for (let i = 0; i < count; i++) hasher.integer(await strings.length64());
}

async function hashGroup(strings: RdbStrings, layout: StreamLayout, hasher: PartHasher): Promise<void> {
  hasher.text('group');
  await strings.into(hasher);
  await hashIntegers(strings, 2, hasher);
  if (layout.withCounters) await strings.length64();
  const pending = await strings.length();
  hasher.integer(BigInt(pending));
  for (let i = 0; i < pending; i++) {
    await strings.reader.need(streamIdBytes + timeBytes);
    hasher.part(strings.reader.take(streamIdBytes + timeBytes));
    hasher.integer(await strings.length64());
  }
  const consumers = await strings.length();
  for (let i = 0; i < consumers; i++) {
    hasher.text('consumer');
    await strings.into(hasher);
    const timesBytes = layout.withActiveTime ? 2 * timeBytes : timeBytes;
    await strings.reader.need(timesBytes);
    strings.reader.take(timesBytes);
    const owned = await strings.length();
    hasher.integer(BigInt(owned));
    for (let k = 0; k < owned; k++) {
      await strings.reader.need(streamIdBytes);
      hasher.part(strings.reader.take(streamIdBytes));
    }
  }
}

/** Steps through the listpack of one stream node. */
class NodeCursor {
  readonly #elements: Iterator<Buffer, void>;

  constructor(bytes: Buffer) {
    this.#elements = listpack(bytes);
  }

  next(): Buffer {
    const step = this.#elements.next();
    if (step.done === true) throw new CorruptionError('A stream node in the RDB is damaged');
    return step.value;
  }

  integer(): bigint {
    const text = this.next().toString('latin1');
    if (!/^-?\d{1,20}$/.test(text)) throw new CorruptionError('A stream node in the RDB is damaged');
    return BigInt(text);
  }
}

/** Layout: comment above `streamAppendItem` in `src/t_stream.c`. Ids are deltas to the node's master id. */
function hashEntries(master: Buffer, bytes: Buffer, hasher: PartHasher): void {
  const cursor = new NodeCursor(bytes);
  const masterMs = master.readBigUInt64BE(0);
  const masterSequence = master.readBigUInt64BE(8);
  const left = { live: cursor.integer(), deleted: cursor.integer() };
  const masterFields = Array.from({ length: Number(cursor.integer()) }, () => cursor.next());
  cursor.integer();
  while (left.live > 0n || left.deleted > 0n) {
    const flags = Number(cursor.integer());
    const parts = [idBytes(masterMs + cursor.integer()), idBytes(masterSequence + cursor.integer())];
    const ownFields = (flags & sameFieldsFlag) === 0 ? Number(cursor.integer()) : undefined;
    for (let i = 0; i < (ownFields ?? masterFields.length); i++) {
      parts.push(ownFields === undefined ? (masterFields[i] as Buffer) : cursor.next(), cursor.next());
    }
    cursor.integer();
    if ((flags & deletedFlag) !== 0) {
      left.deleted--;
      continue;
    }
    left.live--;
    hasher.text('entry');
    for (const part of parts) hasher.part(part);
  }
}

function idBytes(half: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, half));
  return bytes;
}
