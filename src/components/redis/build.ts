import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { createRemoteRedis } from '../remote/stores.ts';
import { addressFor, proofOf } from '../server-address.ts';
import { redisTls } from './settings.ts';
import { createRedisComponent } from './index.ts';
import type { RedisSettings } from './settings.ts';

export function build(settings: RedisSettings, { name, place, scratchDir }: BuildContext): Component {
  const { service, socket, username } = settings;
  const options = {
    ...{ name, service },
    ...(addressFor(settings, place, 6379) ?? { host: undefined, port: 6379 }),
    ...(place.address === 'unknown' ? {} : { socket }),
    ...proofOf(place),
    tls: redisTls(settings),
    username,
    password: place.password,
    scratchDir,
  };
  const dataDir = settings.data_dir ?? place.path;
  return dataDir === undefined && place.remote !== undefined
    ? createRemoteRedis(options, place.remote.volume)
    : createRedisComponent({ ...options, dataDir });
}
