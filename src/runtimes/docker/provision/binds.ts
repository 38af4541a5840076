import { chmod, chown } from 'node:fs/promises';
import { isThere, statIfThere } from '../../../disk/is-there.ts';
import { makeDirectories } from '../../../disk/make-directories.ts';
import { isWithin } from '../../../model/captured-place.ts';
import { toTarsError } from '../../../model/errors.ts';
import type { Ownership, RecordedBind } from '../../../model/manifest.ts';
import { shellWord } from '../../../model/shell-word.ts';
import { isOfMachine } from '../../../model/surroundings.ts';
import type { CreatedResources, ProvisionRequest } from '../../../ports/provisioner.ts';
import { readProject, type ProjectContainer } from '../project/project.ts';
import type { DockerProvisionerOptions, Situation } from './situation.ts';

/** Something that a person has to create or bring. */
export interface Lacking {
  readonly what: string;
  /** The shell line that creates it; a file is empty then. */
  readonly line: string;
}

/** Files and directories of this machine that containers have mounted, as they are now. */
export async function recordBinds(
  containers: readonly Pick<ProjectContainer, 'service' | 'mounts'>[],
): Promise<RecordedBind[]> {
  const services = new Map<string, Set<string>>();
  for (const { service, mounts } of containers)
    for (const { type, source, isDirectory } of mounts)
      if (type === 'bind' || isDirectory === true)
        services.set(source, (services.get(source) ?? new Set()).add(service));
  const found = await Promise.all(
    [...services].sort().map(async ([path, users]): Promise<RecordedBind[]> => {
      const stats = await statIfThere(path).catch(() => undefined);
      if (stats === undefined || !(stats.isFile() || stats.isDirectory())) return [];
      return [
        {
          ...{ path, kind: stats.isFile() ? 'file' : 'directory', services: [...users].sort() },
          ...{ uid: Number(stats.uid), gid: Number(stats.gid), mode: Number(stats.mode) & 0o7777 },
        },
      ];
    }),
  );
  return found.flat();
}

/**
 * Files that services to be created have mounted and that no one brings back. The Engine would put an empty directory in
 * the place of each.
 */
export async function lackingFiles(
  { model, missing }: Pick<Situation, 'model' | 'missing'>,
  { recorded, restorable }: Pick<ProvisionRequest, 'recorded' | 'restorable'>,
): Promise<readonly Lacking[]> {
  const binds = recorded?.binds ?? [];
  // What lies in a directory that is mounted too comes back with it.
  const inDirectory = (path: string): boolean =>
    binds.some((bind) => bind.kind === 'directory' && isWithin(path, bind.path));
  const mounted = binds
    .filter(({ kind, services }) => kind === 'file' && services.some((service) => missing.includes(service)))
    .map(({ path }) => path)
    .filter((path) => model === undefined || isMounted(path, model, missing));
  const granted = missing.flatMap((service) => model?.services.get(service)?.files ?? []);
  const lacking: Lacking[] = [];
  for (const path of new Set([...mounted, ...granted])) {
    if (isOfMachine(path) || restorable.includes(path) || inDirectory(path)) continue;
    if (!(await isThere(path)))
      lacking.push({ what: `the file ${path}`, line: `install -D -m 644 /dev/null ${shellWord(path)}` });
  }
  return lacking;
}

/** The files of today may mount it no more. */
const isMounted = (
  path: string,
  { services }: NonNullable<Situation['model']>,
  missing: readonly string[],
): boolean =>
  missing.some((service) =>
    (services.get(service)?.mounts ?? []).some(({ type, source }) => type === 'bind' && source === path),
  );

/**
 * Creates the directories that the created containers have mounted, with the owner and mode that they had: the Engine
 * would create them as root's, and only at the start. What is there already stays what it is.
 * @returns what was created, each after the one that it lies in
 */
export async function createDirectories(
  { engine, project, stores }: DockerProvisionerOptions,
  { containers }: CreatedResources,
  recorded: ProvisionRequest['recorded'],
): Promise<readonly string[]> {
  const ids = new Set(containers.map(({ id }) => id));
  const binds = new Map((recorded?.binds ?? []).map((bind) => [bind.path, bind]));
  const found = await readProject(engine, project);
  const created: string[] = [];
  for (const { service, mounts } of found.containers.filter(({ id }) => ids.has(id))) {
    for (const { type, source, isDirectory, readOnly } of mounts) {
      if (isDirectory !== true && type !== 'bind') continue;
      const bind = binds.get(source);
      // Data is put there before the Engine would create what no one has recorded.
      const isWanted =
        bind === undefined
          ? isDirectory === true || (stores.has(service) && !readOnly)
          : bind.kind === 'directory';
      if (!isWanted || (await isThere(source))) continue;
      created.push(...(await createDirectory(source, bind)));
    }
  }
  return created;
}

async function createDirectory(path: string, owned: Ownership | undefined): Promise<readonly string[]> {
  try {
    const created = await makeDirectories(path, 0o755);
    if (owned !== undefined) {
      if (process.getuid?.() === 0) await chown(path, owned.uid, owned.gid);
      await chmod(path, owned.mode);
    }
    return created;
  } catch (error) {
    throw toTarsError(error, `Cannot create the directory ${path}`);
  }
}
