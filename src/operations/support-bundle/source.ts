import type { OperationContext } from '../../ports/context.ts';

/** Something that a source found, as it is: it may hold secrets. */
export interface RawFile {
  /** Where it goes, below the bundle's folder. */
  readonly path: string;
  /** Where it is from, for a person. */
  readonly from: string;
  readonly body: string | Uint8Array;
  /** A file of the operator, the end of a server's log, a JSON document of ours, or sentences of ours. */
  readonly form: 'file' | 'log' | 'report' | 'note';
}

/** What is not in the bundle. */
export interface Omission {
  readonly what: string;
  readonly why: string;
}

/** What one source gives. */
export interface Yield {
  readonly files?: readonly RawFile[];
  /** Read for the secrets in them alone; they do not go into the bundle. */
  readonly lessons?: readonly RawFile[];
  /** Secrets themselves, which go wherever they stand. */
  readonly secrets?: readonly string[];
  readonly omitted?: readonly Omission[];
  /** Sources that only this one could name, such as the log of each container. */
  readonly further?: readonly SupportSource[];
}

/** One thing that is looked at. It changes nothing; what it throws is why it is left out. */
export interface SupportSource {
  /** Such as `doctor` or `log of redis`. */
  readonly name: string;
  /** How long it may take; else the bundle's own limit. */
  readonly limitMs?: number | undefined;
  collect(ctx: OperationContext): Promise<Yield>;
}

/** A JSON document of ours. */
export const report = (path: string, from: string, value: unknown): RawFile => ({
  ...{ path, from, form: 'report' },
  body: JSON.stringify(value, null, 2),
});

/** What cannot be collected, and why. */
export const missingSource = (what: string, why: string): SupportSource => ({
  name: what,
  collect: () => Promise.resolve({ omitted: [{ what, why }] }),
});
