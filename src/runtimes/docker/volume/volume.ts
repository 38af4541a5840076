import { posix } from 'node:path';
import type { StoreVolume } from '../../../ports/volume.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';
import { HelperContainer, mountPoint, type VolumePlace } from './volume-helper.ts';
import { wayBackScript } from './volume-scripts.ts';
import { shellWord } from '../../../model/shell-word.ts';

/**
 * A store's directory behind the Engine. Work on it is done in a helper container: made from the store's own image,
 * without network, with nothing mounted but what the store has mounted there. It works whether the store runs, is
 * frozen or stopped, and it ends with this process, however that ends.
 */
export function createDockerVolume(engine: Engine, place: VolumePlace): StoreVolume {
  const { container, mount, path } = place;
  const where = mount.volume === undefined ? `the directory ${mount.source}` : `the volume ${mount.volume}`;
  const label = `${path} in ${where}`;
  const root = posix.join(mountPoint, posix.relative(mount.destination, path));
  const line = (script: string, args: readonly string[]): string =>
    [
      ...['docker', 'run', '--rm', '--user', '0:0', '--network', 'none', '--entrypoint', 'sh'],
      ...['-v', `${mount.volume ?? mount.source}:${mountPoint}`, '-w', root, container.image],
      ...['-euc', script, ...(args.length === 0 ? [] : ['sh', ...args])],
    ]
      .map(shellWord)
      .join(' ');
  return {
    label,
    open: (access, ctx) => HelperContainer.start(engine, { ...place, label, root }, access, ctx),
    wayBack: (exchange) => {
      const { part } = exchange;
      if ('paths' in part && part.paths.length === 0) return [];
      return [line(wayBackScript(exchange), 'all' in part ? [] : part.paths)];
    },
    removal: (path) => line('rm -rf "$1"', [path]),
    async running() {
      try {
        return (await engine.getContainer(container.id).inspect()).State.Running;
      } catch (error) {
        if (engineStatus(error) === 404) return false;
        throw engineError(error, `Cannot inspect the container ${container.name}`);
      }
    },
  };
}
