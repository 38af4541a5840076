import { createHash } from 'node:crypto';
import { TarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { DerivedContent, DerivedSource } from '../../ports/store-place.ts';
import { ownAttributes } from '../paths/own-attributes.ts';
import { derivedFacts, derivedFile, shownDerived, type DerivedFile } from './derived.ts';
import type { CapturedFile, ConfigFacts } from './facts.ts';
import { decodeText, pathInSnapshot, readConfigFiles, type ConfigFile } from './files.ts';
import { redactFiles } from './redact/index.ts';
import { seal } from './sealed.ts';

/** Which files are captured, and how their secrets are kept. */
export interface CaptureOptions {
  readonly name: string;
  readonly files: readonly string[];
  readonly secrets: 'repository' | 'sealed' | 'redact-only';
  readonly ageRecipients: readonly string[];
  readonly knownSecrets: readonly string[];
  readonly derived: DerivedSource | undefined;
}

/** Reads the files at the mark; everything else happens before or at leisure, in memory, as they are small. */
export function prepareConfigCapture(
  options: CaptureOptions,
  derived: DerivedContent | undefined,
): PreparedCapture {
  let marked: readonly ConfigFile[] | undefined;
  return {
    pointInTime: 'cut',
    async mark(signal) {
      marked = await readConfigFiles(options.files, signal);
    },
    settle: () => Promise.resolve(),
    async capture(sink, ctx) {
      if (marked === undefined)
        throw new TarsError('internal', `Cannot capture ${options.name}: it was not marked`);
      const made = derivedFile(derived, options.derived, marked);
      return captureFiles(options, marked, made, sink, ctx);
    },
    [Symbol.asyncDispose]() {
      marked = undefined;
      return Promise.resolve();
    },
  };
}

/** Where the true files go: only ever under encryption (DESIGN.md section 11). */
function trueCopyFor(
  options: CaptureOptions,
  encrypted: boolean,
): Pick<ConfigFacts, 'trueCopy' | 'trueCopyReason'> {
  if (options.secrets === 'redact-only')
    return { trueCopy: 'none', trueCopyReason: 'secrets is set to redact-only' };
  if (options.secrets === 'repository' && encrypted) return { trueCopy: 'repository' };
  if (options.ageRecipients.length > 0) return { trueCopy: 'sealed' };
  const trueCopyReason = encrypted
    ? 'secrets is set to sealed and there are no age recipients'
    : 'an archive is not encrypted and there are no age recipients';
  return { trueCopy: 'none', trueCopyReason };
}

/** What the operator reads about where the true files are. */
const methods: Readonly<Record<ConfigFacts['trueCopy'], string>> = {
  repository: 'with secrets, in the encrypted repository',
  sealed: 'with secrets, sealed for the age recipients',
  none: 'redacted only, without secrets',
};

async function captureFiles(
  options: CaptureOptions,
  given: readonly ConfigFile[],
  made: DerivedFile | undefined,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CaptureReport> {
  const { name } = options;
  await captureRedacted(options, given, sink, ctx.signal);
  const copy = trueCopyFor(options, sink.encrypted);
  // Of a derived file there is nothing but secrets: without a true copy nothing of it is kept.
  const derived = copy.trueCopy === 'none' ? undefined : made;
  const files = derived === undefined ? given : [...given, derived.file];
  if (derived !== undefined) {
    const { path, attributes } = derived.file;
    const shown = Buffer.from(shownDerived(derived.names));
    await write(sink, `${name}/redacted/${pathInSnapshot(path)}`, shown, attributes, ctx.signal);
  }
  if (copy.trueCopy === 'repository') {
    for (const { path, bytes, attributes } of files)
      await write(sink, `${name}/true/${pathInSnapshot(path)}`, bytes, attributes, ctx.signal);
  } else if (copy.trueCopy === 'sealed') {
    const sealed = await seal(files, options.ageRecipients);
    await write(sink, `${name}/sealed.age`, sealed, ownAttributes(ctx), ctx.signal);
  } else {
    ctx.log.warn(`${name}: the true configuration is not stored, because ${copy.trueCopyReason ?? ''}`);
  }
  const facts: ConfigFacts = {
    ...copy,
    hashes: sink.encrypted ? 'sha256' : 'withheld',
    files: files.map((file) => capturedFile(file, sink.encrypted)),
    ...(derived === undefined ? {} : { derived: derivedFacts(derived) }),
  };
  return { serverVersion: undefined, method: methods[copy.trueCopy], writesBlockedMs: 0, facts };
}

async function captureRedacted(
  options: CaptureOptions,
  files: readonly ConfigFile[],
  sink: ArtifactSink,
  signal: AbortSignal,
): Promise<void> {
  const decoded = files.map(({ path, bytes, attributes }) => ({ path, attributes, ...decodeText(bytes) }));
  const shown = redactFiles(
    decoded.map(({ path, text }) => ({ name: path, text })),
    options.knownSecrets,
  );
  for (const [i, { path, attributes, encode }] of decoded.entries())
    await write(
      sink,
      `${options.name}/redacted/${pathInSnapshot(path)}`,
      encode(shown[i] ?? ''),
      attributes,
      signal,
    );
}

function capturedFile({ path, bytes, attributes }: ConfigFile, encrypted: boolean): CapturedFile {
  const { mode, uid, gid, mtimeNs } = attributes;
  const hash = encrypted
    ? { sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.byteLength }
    : {};
  return { path, mode, uid, gid, mtimeNs: mtimeNs.toString(), ...hash };
}

async function write(
  sink: ArtifactSink,
  path: string,
  bytes: Uint8Array,
  attributes: ArtifactAttributes,
  signal: AbortSignal,
): Promise<void> {
  await sink.write(path, once(bytes), { attributes, chunking: 'small', sizeBytes: bytes.byteLength, signal });
}

async function* once(bytes: Uint8Array): Bytes {
  // A copy: what is yielded is the sink's, and these bytes may be used again.
  yield await Promise.resolve(new Uint8Array(bytes));
}
