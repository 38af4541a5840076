import { ServiceUnavailableError } from '../../model/errors.ts';
import type { Component } from '../../ports/component.ts';
import type { BuildContext } from '../../ports/kind.ts';
import { addressFor, proofOf } from '../server-address.ts';
import { createPostgresComponent } from './index.ts';
import type { PostgresSettings } from './settings.ts';

export function build(settings: PostgresSettings, { name, place, scratchDir }: BuildContext): Component {
  const { service, databases, client_bin_dir: clientBinDir } = settings;
  const { sslmode, sslrootcert, sslcert, sslkey } = settings;
  const address = addressFor(settings, place, 5432);
  if (address === undefined)
    throw new ServiceUnavailableError(`The address of ${name} is not known while its service does not run`);
  return createPostgresComponent({
    ...{ name, service, ...address },
    ...proofOf(place),
    user: settings.user ?? place.user ?? 'postgres',
    password: place.password,
    databases,
    scratchDir,
    tls: { sslmode, sslrootcert, sslcert, sslkey },
    ...(clientBinDir === undefined ? {} : { clientBinDir }),
    ...(place.programs === undefined ? {} : { container: place.programs }),
  });
}
