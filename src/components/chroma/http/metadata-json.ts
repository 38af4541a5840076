import { CorruptionError } from '../../../model/errors.ts';
import type { Metadata, MetadataValue } from '../record.ts';

/** A float's JSON text. */
export type FloatSpelling = (value: number) => string;

/** The shortest text that reads back as the same float, never looking like an integer. @throws CorruptionError */
export const shortestFloat: FloatSpelling = (value) => {
  if (!Number.isFinite(value)) throw new CorruptionError(`JSON cannot carry the number ${value}`);
  const text = Object.is(value, -0) ? '-0' : String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
};

/** Metadata as a request carries it; `null` for none, because Chroma refuses `{}` for a collection. */
export function metadataText(metadata: Metadata, spell: FloatSpelling): string {
  if (metadata.size === 0) return 'null';
  const members = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${valueText(value, spell)}`);
  return `{${members.join(',')}}`;
}

function valueText(value: MetadataValue, spell: FloatSpelling): string {
  if (typeof value === 'object') return `[${value.map((item) => valueText(item, spell)).join(',')}]`;
  if (typeof value === 'number') return spell(value);
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
