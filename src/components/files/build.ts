import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { createTreesComponent } from './index.ts';
import type { FilesSettings } from './settings.ts';

export function build(
  settings: FilesSettings,
  { name, place, leftOut, inContainers, scratchDir, configuration, foreignFiles }: BuildContext,
): Component {
  const { service, paths = [], inside, exclude } = settings;
  const places =
    inside === undefined
      ? paths.map((path) => ({ path, live: path }))
      : [{ path: inside, live: place.path ?? inside }];
  const trees = places.map((each) => ({
    ...each,
    exclude,
    keepOut: leftOut.get(each.live) ?? [],
    foreignFiles,
  }));
  // A container would go on with the directory that was renamed.
  const { sharedWith } = place;
  return createTreesComponent({
    ...{ name, service, trees, sharedWith },
    ...{ keepDirectory: inContainers, scratchDir, look: configuration.look },
  });
}
