import { join } from 'node:path';
import { dataPathsOf } from '../composition/index.ts';
import type { PathNeed } from '../operations/doctor/places.ts';
import type { Settings } from '../settings/load.ts';
import type { ComponentSettings } from '../settings/schema.ts';

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
      // A container would go on with a directory that was renamed: there, its content is exchanged.
      needsOf(name, component, docker === undefined ? 'replace' : 'write'),
    ),
  ];
}

function needsOf(name: string, component: ComponentSettings, exchange: 'replace' | 'write'): PathNeed[] {
  const backup = `the backup of ${name}`;
  const restore = `the restore of ${name}`;
  const both = (path: string, right: PathNeed['right']): PathNeed[] => [
    { path, right: 'read', purpose: backup },
    { path, right, purpose: restore },
  ];
  switch (component.kind) {
    case 'postgres':
      return [];
    case 'redis':
      return dataPathsOf(component).map((path) => ({ path, right: 'write', purpose: restore }));
    case 'ollama':
      return dataPathsOf(component).flatMap((path) => both(path, 'write'));
    case 'chroma':
      return dataPathsOf(component).flatMap((path) => both(path, 'replace'));
    case 'files':
      return dataPathsOf(component).flatMap((path) => both(path, exchange));
    case 'config':
      return component.files.flatMap((path) => both(path, 'replace'));
  }
}
