import { mkdir } from 'node:fs/promises';
import { extname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { RestoreRefusedError, toTarsError } from '../../../model/errors.ts';
import type { ComposeRecord, RecordedVolume } from '../../../model/manifest.ts';
import type { CreatedResources, ProvisionRequest } from '../../../ports/provisioner.ts';
import type { ComposeModel } from '../compose/compose-model.ts';
import { engineError, type Engine } from '../engine/engine.ts';
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

/** Compose does not create volumes of others. One that is gone is created as it was recorded. */
export async function createExternalVolumes(
  engine: Engine,
  model: ComposeModel,
  services: readonly string[],
  recorded: ComposeRecord | undefined,
): Promise<void> {
  const keys = services.flatMap((service) => model.services.get(service)?.mounts ?? []).map((m) => m.source);
  for (const { name, external } of [...model.volumes]
    .filter(([key]) => keys.includes(key))
    .map(([, v]) => v)) {
    if (!external || (await hasVolume(engine, name))) continue;
    const then = recorded?.volumes.find((volume) => volume.name === name);
    if (then === undefined || then.hasOptions) {
      throw new RestoreRefusedError(`The volume ${name} is missing, and Compose does not create it`, {
        hint: `Create it as it was: docker volume create ${name}`,
      });
    }
    await engine
      .createVolume({ Name: name, Driver: then.driver, Labels: then.labels })
      .catch((error: unknown) => {
        throw engineError(error, `Cannot create the volume ${name}`);
      });
  }
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

/**
 * Directories of this machine that stores keep their data in: the Engine would create them, as these are, but only at
 * the start, and data is put there before.
 */
export async function createDirectories(
  { engine, project, stores }: DockerProvisionerOptions,
  { containers }: CreatedResources,
): Promise<void> {
  const ids = new Set(containers.map(({ id }) => id));
  const found = await readProject(engine, project);
  const mounts = found.containers
    .filter(({ id, service }) => ids.has(id) && stores.has(service))
    .flatMap((container) => container.mounts);
  for (const { type, source, destination, readOnly, isDirectory } of mounts) {
    // What has an extension is a file that somebody has to bring.
    if (isDirectory !== true && (type !== 'bind' || readOnly || extname(destination) !== '')) continue;
    await mkdir(source, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
      throw toTarsError(error, `Cannot create the directory ${source}`);
    });
  }
}
