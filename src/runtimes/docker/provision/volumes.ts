import { isDeepStrictEqual } from 'node:util';
import type { ComposeRecord, RecordedVolume } from '../../../model/manifest.ts';
import type { CreatedResources, ProvisionRequest } from '../../../ports/provisioner.ts';
import { hasVolume } from './created.ts';
import { rootOf, setRoot } from './record.ts';
import type { DockerProvisionerOptions, Situation } from './situation.ts';
import { composeLabels, readProject } from '../project/project.ts';

/** Names of the volumes that would be created with what is missing. */
export async function missingVolumes(
  { engine, project }: DockerProvisionerOptions,
  { model, missing }: Situation,
  { recorded }: ProvisionRequest,
): Promise<readonly string[]> {
  if (missing.length === 0) return [];
  const names =
    model === undefined
      ? recordedVolumes(recorded, project, missing).map(({ name }) => name)
      : missing.flatMap((service) =>
          (model.services.get(service)?.mounts ?? []).flatMap(({ type, source }) =>
            type === 'volume' ? (model.volumes.get(source)?.name ?? []) : [],
          ),
        );
  const here = await Promise.all(names.map((name) => hasVolume(engine, name)));
  return [...new Set(names.filter((_, i) => here[i] === false))].sort();
}

function recordedVolumes(
  recorded: ComposeRecord | undefined,
  project: string,
  services: readonly string[],
): readonly RecordedVolume[] {
  if (recorded?.project !== project) return [];
  return recorded.volumes.filter(({ service }) => services.includes(service));
}

/** What runs as a user of its own must be able to write to the root of its volume. */
export async function restoreRoots(
  { engine, project }: DockerProvisionerOptions,
  { containers, volumes }: CreatedResources,
  recorded: ComposeRecord | undefined,
): Promise<void> {
  const found = await readProject(engine, project);
  const ids = new Set(containers.map(({ id }) => id));
  for (const { id, service, mounts } of found.containers.filter((container) => ids.has(container.id))) {
    for (const { volume: name, destination } of mounts) {
      const root = recordedRoot(recorded, service, name, project);
      if (root === undefined || name === undefined || !volumes.includes(name)) continue;
      if (isDeepStrictEqual(await rootOf(engine, id, destination), root)) continue;
      await setRoot(engine, id, destination, root);
    }
  }
}

/** Under another project name a volume is known by its key in the Compose file. */
function recordedRoot(
  recorded: ComposeRecord | undefined,
  service: string,
  name: string | undefined,
  project: string,
): RecordedVolume['root'] {
  const ofService = (recorded?.volumes ?? []).filter((volume) => volume.service === service);
  return ofService.find((volume) => {
    const key = volume.labels[composeLabels.volume];
    return volume.name === name || (key !== undefined && `${project}_${key}` === name);
  })?.root;
}
