import { ConfigurationError } from '../../model/errors.ts';
import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { createRemoteOllama } from '../remote/stores.ts';
import { createOllamaComponent } from './index.ts';
import type { OllamaSettings } from './settings.ts';

export function build(
  settings: OllamaSettings,
  { name, place, scratchDir, includeModels }: BuildContext,
): Component {
  const models = includeModels ? 'all' : settings.models;
  const url = place.address === 'unknown' ? undefined : settings.url;
  const options = { name, service: settings.service, url, models } as const;
  const path = settings.path ?? place.path;
  if (path !== undefined) return createOllamaComponent({ ...options, path });
  if (place.remote !== undefined) return createRemoteOllama({ ...options, scratchDir }, place.remote.volume);
  throw new ConfigurationError(`The model store of ${name} is not known`, {
    hint: `Set components.${name}.path in tars.yaml to the directory with manifests/ and blobs/ in it.`,
  });
}
