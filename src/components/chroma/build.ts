import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { createRemoteChroma } from '../remote/stores.ts';
import { proofOf } from '../server-address.ts';
import { createChromaComponent } from './index.ts';
import type { ChromaSettings } from './settings.ts';

export function build(settings: ChromaSettings, { name, place, scratchDir }: BuildContext): Component {
  const { service, url, headers, tenants } = settings;
  const { address } = place;
  const found = typeof address === 'object' ? `http://${address.host}:${address.port}` : undefined;
  const options = {
    ...{ name, service, url: address === 'unknown' ? undefined : (url ?? found), headers, scratchDir },
    ...proofOf(place),
    ...(tenants === undefined ? {} : { tenants }),
  };
  const path = settings.path ?? place.path;
  return path === undefined && place.remote !== undefined
    ? createRemoteChroma(options, place.remote)
    : createChromaComponent({ ...options, path, keepDirectory: settings.path === undefined });
}
