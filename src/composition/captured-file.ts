import { capturedContent } from '../components/config/contents.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';
import type { Settings } from '../settings/load.ts';
import type { CapturedFile } from '../settings/secrets.ts';

/** Files of `source` that the configuration components in `settings` captured, with their secrets. */
export function capturedFileIn(
  { components }: Pick<Settings, 'components'>,
  source: SnapshotSource,
  signal: AbortSignal,
): CapturedFile {
  return async (path) => {
    const { components: captured } = await source.manifest(signal);
    for (const from of captured.filter(({ outcome }) => outcome === 'captured')) {
      const configuration = components[from.name]?.configuration;
      if (configuration === undefined) continue;
      const bytes = await capturedContent(path, from, configuration.identityFile, source, signal);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  };
}
