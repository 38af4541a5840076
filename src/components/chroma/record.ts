/** A metadata scalar without loss: `bigint` for integers, `number` for floats (so 1 and 1.0 stay apart). */
export type MetadataScalar = string | bigint | number | boolean;

/** Later 1.x servers also keep arrays of one scalar type. */
export type MetadataValue = MetadataScalar | readonly MetadataScalar[];

/** Metadata of a record or a collection, by key. */
export type Metadata = ReadonlyMap<string, MetadataValue>;

/** One record of a collection, the same whether read from the files or over HTTP. */
export interface ChromaRecord {
  readonly id: string;
  readonly document: string | null;
  readonly uri: string | null;
  /** Without the reserved `chroma:` keys, which hold document and URI. */
  readonly metadata: Metadata;
  /** `null` when the store lost it. */
  readonly vector: Float32Array | null;
}

/** A float's shortest JSON text that reads back as a float: always with a fraction or an exponent. */
function floatText(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

function valueText(value: MetadataValue): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return floatText(value);
  if (typeof value === 'object') return `[${value.map(valueText).join(',')}]`;
  return String(value);
}

const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Canonical JSON of metadata: keys sorted by UTF-16 code units, integers with all their digits, floats always
 * with a fraction or an exponent. Equal metadata has equal text, and {@link decodeMetadata} loses nothing.
 */
export function encodeMetadata(metadata: Metadata): string {
  const members = [...metadata]
    .sort(([a], [b]) => byCodeUnits(a, b))
    .map(([key, value]) => `${JSON.stringify(key)}:${valueText(value)}`);
  return `{${members.join(',')}}`;
}

/** The reverse of {@link encodeMetadata}. @throws SyntaxError when `text` is no JSON object of scalars */
export function decodeMetadata(text: string): Metadata {
  return metadataOf(parseLosslessJson(text));
}

/** Metadata out of a parsed JSON object; members that are `null` are left out. @throws SyntaxError */
export function metadataOf(value: unknown): Metadata {
  const metadata = new Map<string, MetadataValue>();
  for (const [key, member] of metadataUpdateOf(value)) if (member !== null) metadata.set(key, member);
  return metadata;
}

/** Like {@link metadataOf}, keeping `null`, which deletes a key in an update. @throws SyntaxError */
export function metadataUpdateOf(value: unknown): ReadonlyMap<string, MetadataValue | null> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError('Metadata is not a JSON object');
  }
  const metadata = new Map<string, MetadataValue | null>();
  for (const [key, member] of Object.entries(value as Record<string, unknown>)) {
    if (member !== null && !isMetadataValue(member)) {
      throw new SyntaxError(
        `Metadata member ${JSON.stringify(key)} is neither a scalar nor a list of scalars`,
      );
    }
    metadata.set(key, member);
  }
  return metadata;
}

function isScalar(value: unknown): value is MetadataScalar {
  return ['string', 'bigint', 'number', 'boolean'].includes(typeof value);
}

function isMetadataValue(value: unknown): value is MetadataValue {
  return isScalar(value) || (Array.isArray(value) && value.every(isScalar));
}

/**
 * JSON.parse that keeps integers exact: a number literal without fraction and exponent becomes a `bigint`, any
 * other a `number`. Uses the source text access of V8 (TC39 proposal JSON.parse source text access).
 * @param readFloat reads the text of a float, when not as ECMAScript does
 * @throws SyntaxError
 */
export function parseLosslessJson(text: string, readFloat: (source: string) => number = Number): unknown {
  const revive = (_key: string, value: unknown, context?: { readonly source?: string }): unknown => {
    const source = context?.source;
    if (typeof value !== 'number' || source === undefined) return value;
    return /^-?\d+$/.test(source) ? BigInt(source) : readFloat(source);
  };
  return JSON.parse(text, revive);
}
