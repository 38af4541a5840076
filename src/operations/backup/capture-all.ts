import { TarsError, toTarsError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactSink, BodyStore, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, Component, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotWriter } from '../../ports/snapshot-store.ts';
import { ArtifactRecorder, type RecordedArtifacts } from './artifact-recorder.ts';

/**
 * Captures every component at once into the writer. One that fails, now or before, is recorded as failed.
 * @param failed by component, what failed before; gains what fails now
 */
export async function captureAll(
  components: readonly Component[],
  captures: ReadonlyMap<string, PreparedCapture>,
  failed: Map<string, TarsError>,
  writer: SnapshotWriter,
  ctx: OperationContext,
): Promise<ComponentManifest[]> {
  return Promise.all(
    components.map(async (component) => {
      const prepared = captures.get(component.name);
      const failure = failed.get(component.name);
      if (failure !== undefined || prepared === undefined) {
        return failedComponent(
          component,
          failure ?? new TarsError('internal', `${component.name} was not prepared`),
        );
      }
      try {
        return await captureOne(component, prepared, writer, ctx);
      } catch (error) {
        const captureError = toTarsError(error, `Cannot capture ${component.name}`);
        failed.set(component.name, captureError);
        return failedComponent(component, captureError);
      }
    }),
  );
}

/**
 * Has everything stored that is read before the cut. A capture that fails is closed, leaves `captures` and is recorded as
 * failed.
 */
export async function precaptureAll(
  captures: Map<string, PreparedCapture>,
  failed: Map<string, TarsError>,
  writer: SnapshotWriter,
  ctx: OperationContext,
): Promise<void> {
  await Promise.all(
    [...captures].map(async ([name, prepared]) => {
      if (prepared.precapture === undefined) return;
      const task = ctx.progress.start(`${name} before the pause`);
      try {
        await prepared.precapture(
          recordingSink(writer, undefined, (bytes) => task.advance(bytes)),
          ctx,
        );
        task.finish('ok');
      } catch (error) {
        task.finish('failed');
        failed.set(name, toTarsError(error, `Cannot capture ${name}`));
        captures.delete(name);
        await prepared[Symbol.asyncDispose]();
      }
    }),
  );
}

async function captureOne(
  component: Component,
  prepared: PreparedCapture,
  writer: SnapshotWriter,
  ctx: OperationContext,
): Promise<ComponentManifest> {
  const startedMs = ctx.clock.monotonicMs();
  const recorder = new ArtifactRecorder(component.name, writer, ctx);
  const task = ctx.progress.start(component.name);
  let report: CaptureReport;
  let recorded: RecordedArtifacts;
  try {
    report = await prepared.capture(
      recordingSink(writer, recorder, (bytes) => task.advance(bytes)),
      ctx,
    );
    recorded = await recorder.finish();
    task.finish('ok');
  } catch (error) {
    await recorder.abandon(error);
    task.finish('failed');
    throw error;
  }
  return {
    name: component.name,
    kind: component.kind,
    outcome: 'captured',
    ...(report.serverVersion === undefined ? {} : { serverVersion: report.serverVersion }),
    pointInTime: prepared.pointInTime,
    method: report.method,
    writesBlockedMs: report.writesBlockedMs,
    ...(report.incomplete === undefined ? {} : { incomplete: report.incomplete }),
    captureMs: ctx.clock.monotonicMs() - startedMs,
    facts: report.facts,
    ...recorded,
  };
}

/** @param recorder undefined before the cut, when nothing belongs to the snapshot yet */
function recordingSink(
  sink: ArtifactSink,
  recorder: ArtifactRecorder | undefined,
  advance: (bytes: number) => void,
): ArtifactSink {
  async function* counted(body: Bytes): Bytes {
    for await (const chunk of body) {
      advance(chunk.byteLength);
      yield chunk;
    }
  }
  const { bodies } = sink;
  return {
    encrypted: sink.encrypted,
    ...(bodies === undefined ? {} : { bodies: recordingBodies(bodies, recorder, counted) }),
    async write(path, body, options) {
      const artifact = await sink.write(path, counted(body), options);
      await recorder?.add(artifact);
      return artifact;
    },
    async reuse(path, identity, attributes) {
      const artifact = await sink.reuse(path, identity, attributes);
      if (artifact !== undefined) {
        await recorder?.add(artifact);
        advance(artifact.sizeBytes);
      }
      return artifact;
    },
    directory: (path, attributes) => sink.directory(path, attributes),
    symlink: (path, linkTarget, attributes) => sink.symlink(path, linkTarget, attributes),
    async link(path, existing, identity) {
      const artifact = await sink.link(path, existing, identity);
      await recorder?.add(artifact);
      return artifact;
    },
    special: (path, file, attributes) => sink.special(path, file, attributes),
    async finish(path) {
      await recorder?.settle();
      await sink.finish(path);
    },
  };
}

function recordingBodies(
  bodies: BodyStore,
  recorder: ArtifactRecorder | undefined,
  counted: (body: Bytes) => Bytes,
): BodyStore {
  return {
    store: (path, body, options) => bodies.store(path, counted(body), options),
    known: (path, identity) => bodies.known(path, identity),
    async place(path, body, options) {
      const artifact = await bodies.place(path, body, options);
      await recorder?.add(artifact);
      return artifact;
    },
  };
}

function failedComponent({ name, kind }: Component, { code, message, hint }: TarsError): ComponentManifest {
  const error = { code, message, ...(hint === undefined ? {} : { hint }) };
  return { name, kind, outcome: 'failed', error, facts: {}, artifacts: [] };
}
