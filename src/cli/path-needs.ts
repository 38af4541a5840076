import { join } from 'node:path';
import type { PathNeed } from '../operations/doctor/places.ts';
import type { Settings } from '../settings/load.ts';
import type { ConfiguredComponent, DataPath } from '../ports/kind.ts';

/** Every right that backups and restores by these settings need on this machine. */
export function pathNeeds(settings: Settings, repositoryExists: boolean): readonly PathNeed[] {
  const { repository, scratch_dir: scratchDir, state_dir: stateDir, components, docker } = settings;
  const folders = repositoryExists ? ['data', 'index', 'snapshots', 'locks'] : [];
  return [
    ...folders.map((folder): PathNeed => ({
      ...{ path: join(repository.path, folder), right: 'write', purpose: 'every backup' },
    })),
    { path: scratchDir, right: 'create', purpose: 'every backup' },
    { path: stateDir, right: 'create', purpose: 'every restore' },
    ...Object.entries(components).flatMap(([name, component]) =>
      needsOf(name, component, docker !== undefined),
    ),
  ];
}

function needsOf(name: string, { places }: ConfiguredComponent, inContainers: boolean): readonly PathNeed[] {
  return places.paths.flatMap(({ path, isRead, restoredBy }): PathNeed[] => [
    ...(isRead ? [{ path, right: 'read' as const, purpose: `the backup of ${name}` }] : []),
    { path, right: rightFor(restoredBy, inContainers), purpose: `the restore of ${name}` },
  ]);
}

/** A container would go on with a directory that was renamed: there, its content is exchanged. */
function rightFor(restoredBy: DataPath['restoredBy'], inContainers: boolean): PathNeed['right'] {
  if (restoredBy !== 'exchange') return restoredBy;
  return inContainers ? 'write' : 'replace';
}
