import { collectArtifacts } from '../../../model/artifact-list.ts';
import type { ComponentManifest } from '../../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../../model/restore-plan.ts';
import { counted } from '../../../model/plural.ts';
import type { ArtifactSource } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { Decision } from '../../restore/single-use.ts';
import { placedCollections, placeOf, type ChromaFacts } from '../facts.ts';
import { generationName } from './collection-names.ts';
import { detectServer } from './detect.ts';
import type { ChromaEndpoint } from './transport.ts';

/** Where a logical restore goes. */
export interface LogicalTarget extends ChromaEndpoint {
  /** The component restored into. */
  readonly name: string;
  readonly kind: string;
  /** The service that must be running, when Chroma has one. */
  readonly service: string | undefined;
}

/** What staging needs of the plan. */
export interface LogicalRestoreDetails {
  readonly restoreId: string;
  readonly serverVersion: string;
  readonly facts: ChromaFacts;
  /** The exports, by their paths in the snapshot. */
  readonly artifacts: readonly string[];
}

const exportPath = /\/export\/\d+\.jsonl$/;

/**
 * Plans the import of a logical capture into fresh collections of a running server.
 * @throws ServiceUnavailableError | TarsError `unsupported-version`, see {@link detectServer}
 */
export async function planLogicalRestore(
  from: ComponentManifest,
  facts: ChromaFacts,
  target: LogicalTarget,
  { restoreId }: Pick<RestoreOptions, 'restoreId'>,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<Decision<LogicalRestoreDetails>> {
  const { client, version } = await detectServer(target, ctx);
  const steps: string[] = [];
  for (const placed of placedCollections(facts)) {
    const { tenant, database, collection } = placed;
    const live = await client.findCollection({ tenant, database }, collection.name, ctx);
    const aside = generationName(collection.name, 'prev', restoreId, version);
    const kept = live === undefined ? 'a new collection' : `the live one is kept as ${aside}`;
    steps.push(
      `Import ${counted(collection.recordCount, 'record')} into collection ${placeOf(placed)}; ${kept}`,
    );
  }
  const services = target.service === undefined ? [] : [target.service];
  const artifacts = (await collectArtifacts(from, source, ctx.signal))
    .map(({ path }) => path)
    .filter((path) => exportPath.test(path));
  const plan: RestorePlan = {
    component: target.name,
    kind: target.kind,
    steps,
    warnings: ['Collections that are not in the snapshot stay as they are', 'Collections get new ids'],
    artifacts,
    requires: { stopped: [], running: services },
    space: [],
  };
  return { plan, details: { restoreId, serverVersion: version, facts, artifacts } };
}
