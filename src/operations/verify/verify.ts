import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import { describeIncomplete, type ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Runtime } from '../../ports/runtime.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import { sortWriters } from '../backup/cut.ts';

/** How the live stores differ from the snapshot: no findings, no difference. */
export interface VerifyResult {
  readonly snapshot: string;
  /** Components that were compared. */
  readonly compared: readonly string[];
  readonly findings: readonly Finding[];
}

interface Comparison {
  readonly component: Component;
  readonly captured: ComponentManifest;
}

/** Compares the live stack with what the snapshot recorded. Changes since the snapshot are findings too. */
export async function verifyStack(
  source: SnapshotSource,
  components: readonly Component[],
  ctx: OperationContext,
): Promise<VerifyResult> {
  const manifest = await source.manifest(ctx.signal);
  const findings: Finding[] = [];
  const pairs: Comparison[] = [];
  for (const component of components) {
    const captured = manifest.components.find(({ name }) => name === component.name);
    if (captured !== undefined && captured.outcome === 'captured') {
      pairs.push({ component, captured });
      const lacking = describeIncomplete(captured);
      if (lacking !== undefined) {
        const message = `It is incomplete in this snapshot: ${lacking}`;
        findings.push({ severity: 'warning', subject: component.name, code: 'captured-in-part', message });
      }
      continue;
    }
    const message =
      captured === undefined ? 'The snapshot does not have it' : 'It was not captured in this snapshot';
    findings.push({ severity: 'warning', subject: component.name, code: 'not-in-snapshot', message });
  }
  findings.push(...(await compareLive(pairs, source, ctx)));
  return {
    snapshot: source.summary.id,
    compared: pairs.map(({ component }) => component.name),
    findings,
  };
}

/** Compares live stores with their captures. @throws InterruptedError only; whatever else fails is a finding */
export async function compareLive(
  pairs: readonly Comparison[],
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { component, captured } of pairs) {
    const task = ctx.progress.start(`comparing ${component.name}`);
    try {
      findings.push(...(await component.verify(captured, ctx, source)));
      task.finish('ok');
    } catch (error) {
      task.finish('failed');
      throwIfAborted(ctx.signal, error);
      const { message } = toTarsError(error, `Cannot compare ${component.name} with the snapshot`);
      findings.push({ severity: 'error', subject: component.name, code: 'verify-failed', message });
    }
  }
  return findings;
}

/** The services that may have written since a snapshot. Only for a hint: where nobody can say what runs, none is named. */
export async function runningWriters(
  runtime: Pick<Runtime, 'discover'>,
  ctx: OperationContext,
): Promise<readonly string[]> {
  try {
    const { pausable, free } = sortWriters(await runtime.discover(ctx));
    return [...pausable, ...free];
  } catch (error) {
    throwIfAborted(ctx.signal);
    ctx.log.debug(toTarsError(error, 'The running services are unknown').message);
    return [];
  }
}
