import { RestoreRefusedError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';

/** Where a restore goes that is not into the project of tars.yaml. */
interface OtherProject {
  readonly project: string;
  /** The components that were asked for; undefined for all. */
  readonly only: readonly string[] | undefined;
  /** Whether components of this kind are configuration files. */
  readonly isConfiguration: (kind: string) => boolean;
}

/**
 * The components that a restore into `project` leaves out: configuration files are one project's, and are not touched
 * for another.
 * @throws RestoreRefusedError when `only` asks for one of them
 */
export async function configurationLeftOut(
  source: SnapshotSource,
  { project, only, isConfiguration }: OtherProject,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const { components } = await source.manifest(ctx.signal);
  const files = components.filter(({ kind }) => isConfiguration(kind)).map(({ name }) => name);
  const asked = files.find((name) => only?.includes(name));
  if (asked !== undefined) {
    throw new RestoreRefusedError(`The files of ${asked} are those of the first project, not of ${project}`, {
      hint: `Omit ${asked} or --project.`,
    });
  }
  for (const name of files) ctx.log.info(`${name} is skipped: its files belong to the first project`);
  return files;
}
