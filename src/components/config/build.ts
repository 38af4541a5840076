import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { createConfigComponent } from './index.ts';
import type { ConfigSettings } from './settings.ts';

export function build(
  { service, files, age_identity_file: ageIdentityFile }: ConfigSettings,
  { name, place, leftOut, configuration }: BuildContext,
): Component {
  return createConfigComponent({
    ...{ name, service, ageIdentityFile, ...configuration },
    files: files.filter((file) => !leftOut.has(file)),
    ...(place.derived === undefined ? {} : { derived: place.derived }),
  });
}
