import { ConfigurationError } from '../model/errors.ts';
import type { Settings } from './load.ts';

/**
 * The same stack as another Compose project beside the configured one: nothing in it points to the first. Its
 * configuration files stay the first one's.
 * @param composeFiles instead of the configured ones, absolute; none: the same files
 * @throws ConfigurationError when that is no other project
 */
export function settingsForProject(
  settings: Settings,
  project: string,
  composeFiles: readonly string[],
): Settings {
  const { docker, components } = settings;
  if (docker === undefined) {
    throw new ConfigurationError('--project is for Compose projects, and tars.yaml has no docker: section', {
      hint: 'Leave --project out.',
    });
  }
  if (docker.project === project) {
    throw new ConfigurationError(`${project} is the project of tars.yaml itself`, {
      hint: 'Omit --project to restore into it, or give the name of another project.',
    });
  }
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(project)) {
    throw new ConfigurationError(`${project} is not a valid name of a Compose project`, {
      hint: 'Use lower-case letters, digits, hyphens and underscores.',
    });
  }
  const files = composeFiles.length === 0 ? docker.compose_files : [...composeFiles];
  return {
    ...settings,
    docker: { ...docker, project, compose_files: files },
    components: Object.fromEntries(
      Object.entries(components).flatMap(([name, component]) => {
        const other = component.forOtherProject();
        return other === undefined ? [] : [[name, other]];
      }),
    ),
  };
}
