import { RestoreRefusedError, ServiceUnavailableError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { ComponentProbe, Leftover, PlannedRestore, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ChromaFacts } from './facts.ts';

/** What each way knows of the component. */
export interface ChromaStore {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
}

/** One way to reach a Chroma; see {@link Component} for what each call promises. */
export interface ChromaWay {
  probe(ctx: OperationContext): Promise<ComponentProbe>;
  leftovers(): Promise<readonly Leftover[]>;
  ready(ctx: OperationContext): Promise<void>;
  prepare(ctx: OperationContext): Promise<PreparedCapture>;
  planRestore(
    from: ComponentManifest,
    facts: ChromaFacts,
    restore: RestoreOptions,
    ctx: OperationContext,
    source: ArtifactSource,
  ): Promise<PlannedRestore>;
  removeStaged(restoreId: string, ctx: OperationContext): Promise<void>;
  verify(facts: ChromaFacts, ctx: OperationContext): Promise<readonly Finding[]>;
}

/** A physical capture needs a directory to go to. */
export function unknownDirectory(name: string): RestoreRefusedError {
  return new RestoreRefusedError(
    `The snapshot of ${name} is physical, and its persist directory is not known`,
    { hint: 'Give path in tars.yaml: the directory that holds chroma.sqlite3.' },
  );
}

/** There is no way to it. */
export function unreachable(name: string): ServiceUnavailableError {
  return new ServiceUnavailableError(
    `tars cannot reach the Chroma server of ${name}: tars.yaml has no address for it`,
    {
      hint: 'Set url in tars.yaml to the address of the Chroma server.',
    },
  );
}
