import { throwIfAborted } from '../../model/abort.ts';
import { ConfigurationError, TarsError, toTarsError } from '../../model/errors.ts';
import { schemaVersionFor, type ComponentManifest, type Manifest } from '../../model/manifest.ts';
import type { PublishedSnapshot } from '../../model/snapshot.ts';
import type { Component, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { PlaceNote } from '../../ports/place-notes.ts';
import type { Guardian, Runtime } from '../../ports/runtime.ts';
import type { Provisioner } from '../../ports/provisioner.ts';
import type { SnapshotDestination } from '../../ports/snapshot-store.ts';
import { captureAll, precaptureAll } from './capture-all.ts';
import { leftOutPlaces, uncapturedMounts } from './uncaptured.ts';
import { settledCut, sortWriters, takeCut, type Cut, type Writers } from './cut.ts';
import { lostVariables, shellVariablesWarning } from '../restore/lost-variables.ts';

/** What a backup works on. */
interface BackupTarget {
  readonly stack: string;
  readonly hostname: string;
  readonly username: string;
  readonly toolVersion: string;
  readonly components: readonly Component[];
  /** Left out on request or by configuration, for the manifest. */
  readonly notCaptured: Manifest['notCaptured'];
  /** What is known of places that no component captures. */
  readonly placeNotes?: readonly PlaceNote[] | undefined;
  /** Those of the components that `tars.yaml` does not name. */
  readonly implied?: Manifest['implied'];
  /** Files of their configuration that `tars.yaml` does not name. */
  readonly impliedFiles?: readonly string[];
  readonly runtime: Runtime;
  readonly guardian: Guardian;
  readonly pauseMaxMs: number;
  /** Undefined for services that need nothing to run in. */
  readonly provisioner?: Provisioner | undefined;
}

/** What a backup would find of one component; with `error` it would be missing from the snapshot. */
interface PlannedComponent {
  readonly name: string;
  readonly kind: string;
  readonly serverVersion?: string;
  readonly sizeBytes?: number;
  readonly summary: string;
  readonly warnings: readonly string[];
  /** Why it cannot be captured right now. */
  readonly error?: TarsError;
}

/** What a backup would do; `--dry-run` prints it. */
export interface BackupPlan {
  readonly stack: string;
  readonly destination: string;
  readonly components: readonly PlannedComponent[];
  readonly writers: Writers;
  readonly notCaptured: Manifest['notCaptured'];
}

/** A snapshot that is published. Its manifest says whether it is `partial`. */
export interface BackupResult {
  readonly manifest: Manifest;
  readonly snapshot: PublishedSnapshot;
}

/** Asks every component what is there; mutates nothing. */
export async function planBackup(
  target: BackupTarget,
  destination: SnapshotDestination,
  ctx: OperationContext,
): Promise<BackupPlan> {
  const components = await Promise.all(target.components.map((component) => planComponent(component, ctx)));
  throwIfAborted(ctx.signal);
  return {
    stack: target.stack,
    destination: destination.location,
    components,
    writers: sortWriters(await target.runtime.discover(ctx)),
    notCaptured: await notCapturedOf(target, ctx),
  };
}

/** What was skipped on request, what tars needs itself, and what no component captures. */
async function notCapturedOf(target: BackupTarget, ctx: OperationContext): Promise<Manifest['notCaptured']> {
  const own = await leftOutPlaces(target.components, ctx);
  return [...target.notCaptured, ...own, ...(await uncapturedMounts(target, ctx))];
}

async function planComponent(component: Component, ctx: OperationContext): Promise<PlannedComponent> {
  const { name, kind } = component;
  try {
    const { serverVersion, sizeBytes, summary, warnings } = await component.probe(ctx);
    return {
      name,
      kind,
      sizeBytes,
      summary,
      warnings,
      ...(serverVersion === undefined ? {} : { serverVersion }),
    };
  } catch (error) {
    const failure = toTarsError(error, `Cannot read the state of ${name}`);
    return { name, kind, summary: 'cannot be captured', warnings: [], error: failure };
  }
}

/**
 * Takes one snapshot of the whole stack: prepare, precapture, cut, settle, capture, publish. A component that fails is
 * recorded with its error and the snapshot is `partial`.
 * @throws ConfigurationError when nothing is there of what the services run in; nothing is published
 * @throws TarsError `capture-failed` when nothing at all could be captured; nothing is published then
 * @throws InterruptedError when the signal aborts; nothing is published, writers run
 */
export async function backup(
  target: BackupTarget,
  destination: SnapshotDestination,
  ctx: OperationContext,
): Promise<BackupResult> {
  const startedAt = ctx.clock.now();
  const failed = new Map<string, TarsError>();
  await using prepared = new PreparedCaptures();
  await using writer = await destination.begin(target, ctx);
  const compose = await recordSurroundings(target, ctx);
  const notCaptured = await notCapturedOf(target, ctx);
  const [first, others] = [true, false].map((isFirst) =>
    target.components.filter(({ precaptures = false }) => precaptures === isFirst),
  );
  await prepareAll(first ?? [], prepared.captures, failed, ctx);
  await precaptureAll(prepared.captures, failed, writer, ctx);
  stopWhenAborted(ctx);
  await prepareAll(others ?? [], prepared.captures, failed, ctx);
  stopWhenAborted(ctx);

  const writers = sortWriters(await target.runtime.discover(ctx));
  const marked = await takeCut({ ...target, prepared: prepared.captures, writers }, ctx);
  addFailures(failed, marked.failed);
  await settleAll(prepared.captures, failed, ctx);
  stopWhenAborted(ctx);

  const components = await captureAll(target.components, prepared.captures, failed, writer, ctx);
  stopWhenAborted(ctx);
  const cut = settledCut(marked, prepared.captures, new Set(failed.keys()));
  if (components.every(({ outcome }) => outcome === 'failed')) throw nothingCaptured(failed);

  const unknown = lostVariables(compose.compose, components);
  if (unknown.length > 0) ctx.log.warn(shellVariablesWarning(unknown));

  const times = { startedAt, finishedAt: ctx.clock.now() };
  const { implied = [], impliedFiles = [] } = target;
  const manifest = {
    ...{ ...buildManifest(target, cut, components, times), ...compose, notCaptured },
    ...(implied.length === 0 ? {} : { implied }),
    ...(impliedFiles.length === 0 ? {} : { impliedFiles: [...impliedFiles] }),
  };
  return { manifest, snapshot: await writer.publish(manifest, ctx) };
}

/** A snapshot without it restores as well, where the project is still there. */
async function recordSurroundings(
  { provisioner }: BackupTarget,
  ctx: OperationContext,
): Promise<Pick<Manifest, 'compose'>> {
  if (provisioner === undefined) return {};
  try {
    return { compose: await provisioner.record(ctx) };
  } catch (error) {
    stopWhenAborted(ctx);
    // A snapshot of nothing but files beside services that nobody finds would pass for one of the stack.
    if (error instanceof ConfigurationError) throw error;
    const { message } = toTarsError(error, 'The services could not be inspected');
    ctx.log.warn(`Images and volumes are not recorded: ${message}`);
    return {};
  }
}

/** Every opened capture, closed on all paths; one that fails to close does not keep the others open. */
class PreparedCaptures implements AsyncDisposable {
  readonly captures = new Map<string, PreparedCapture>();

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.captures.values()].map((capture) => capture[Symbol.asyncDispose]()));
  }
}

function stopWhenAborted(ctx: OperationContext): void {
  throwIfAborted(ctx.signal);
}

function addFailures(failed: Map<string, TarsError>, more: ReadonlyMap<string, TarsError>): void {
  for (const [name, error] of more) failed.set(name, error);
}

async function prepareAll(
  components: readonly Component[],
  captures: Map<string, PreparedCapture>,
  failed: Map<string, TarsError>,
  ctx: OperationContext,
): Promise<void> {
  await Promise.all(
    components.map(async (component) => {
      try {
        captures.set(component.name, await component.prepare(ctx));
      } catch (error) {
        failed.set(component.name, toTarsError(error, `Cannot prepare ${component.name}`));
      }
    }),
  );
}

async function settleAll(
  captures: ReadonlyMap<string, PreparedCapture>,
  failed: Map<string, TarsError>,
  ctx: OperationContext,
): Promise<void> {
  await Promise.all(
    [...captures].map(async ([name, capture]) => {
      if (failed.has(name)) {
        // A mark that failed late may still hold a lock: let go of the live store at once.
        await capture[Symbol.asyncDispose]();
        return;
      }
      try {
        await capture.settle(ctx);
      } catch (error) {
        failed.set(name, toTarsError(error, `Cannot settle ${name}`));
      }
    }),
  );
}

function nothingCaptured(failed: ReadonlyMap<string, TarsError>): TarsError {
  const reasons = [...failed].map(([name, { message }]) => `${name}: ${message}`);
  const hint = [...failed.values()].find((error) => error.hint !== undefined)?.hint;
  return new TarsError(
    'capture-failed',
    `Nothing could be captured, so there is no snapshot: ${reasons.join('; ')}`,
    {
      ...(hint === undefined ? {} : { hint }),
    },
  );
}

const isWhole = ({ outcome, incomplete }: ComponentManifest): boolean =>
  outcome === 'captured' && incomplete === undefined;

function buildManifest(
  target: BackupTarget,
  cut: Cut,
  components: readonly ComponentManifest[],
  { startedAt, finishedAt }: { startedAt: Date; finishedAt: Date },
): Omit<Manifest, 'notCaptured'> {
  return {
    schemaVersion: schemaVersionFor(components),
    stack: target.stack,
    toolVersion: target.toolVersion,
    hostname: target.hostname,
    time: cut.time.toISOString(),
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
    consistency: cut.consistency,
    ...(cut.reason === undefined ? {} : { consistencyReason: cut.reason }),
    ...(cut.writerPauseMs === undefined ? {} : { writerPauseMs: Math.round(cut.writerPauseMs * 10) / 10 }),
    outcome: components.every(isWhole) ? 'complete' : 'partial',
    components: [...components],
  };
}
