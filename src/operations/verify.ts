import { toTarsError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import type { Component } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';

export interface VerifyResult {
  readonly snapshot: string;
  /** Components that were compared. */
  readonly compared: readonly string[];
  readonly findings: readonly Finding[];
}

/** Compares the live stack with what the snapshot recorded. Changes since the snapshot are findings too. */
export async function verifyStack(
  source: SnapshotSource,
  components: readonly Component[],
  ctx: OperationContext,
): Promise<VerifyResult> {
  const manifest = await source.manifest(ctx.signal);
  const findings: Finding[] = [];
  const compared: string[] = [];
  for (const component of components) {
    const captured = manifest.components.find(({ name }) => name === component.name);
    if (captured === undefined || captured.outcome === 'failed') {
      const message =
        captured === undefined ? 'The snapshot does not have it' : 'It was not captured in this snapshot';
      findings.push({ severity: 'warning', subject: component.name, code: 'not-in-snapshot', message });
      continue;
    }
    const task = ctx.progress.start(`verifying ${component.name}`);
    compared.push(component.name);
    try {
      findings.push(...(await component.verify(captured, ctx)));
      task.finish('ok');
    } catch (error) {
      task.finish('failed');
      ctx.signal.throwIfAborted();
      const { message } = toTarsError(error, `Cannot verify ${component.name}`);
      findings.push({ severity: 'error', subject: component.name, code: 'verify-failed', message });
    }
  }
  return { snapshot: source.summary.id, compared, findings };
}
