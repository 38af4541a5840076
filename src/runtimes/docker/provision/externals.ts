import { RestoreRefusedError } from '../../../model/errors.ts';
import type { RecordedNetwork, RecordedVolume } from '../../../model/manifest.ts';
import { externalVolumes, networkLine, volumeLine } from '../../../model/surroundings.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { ProvisionRequest } from '../../../ports/provisioner.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { lackingFiles, type Lacking } from './binds.ts';
import { hasVolume } from './created.ts';
import { canCreate, createNetwork, hasNetwork } from './networks.ts';
import type { Situation } from './situation.ts';

/** What Compose expects to be there and does not create. */
interface MissingExternals {
  readonly networks: readonly RecordedNetwork[];
  readonly volumes: readonly RecordedVolume[];
}

interface ExternalNames {
  readonly networks: readonly string[];
  readonly volumes: readonly string[];
}

/**
 * The networks and volumes from outside the project that the services to be created need and that are not there. All of
 * them can be created as they were recorded.
 * @throws RestoreRefusedError naming whatever else they need and no one brings back, with the lines that create it
 */
export async function missingExternals(
  engine: Engine,
  situation: Situation,
  request: ProvisionRequest,
): Promise<MissingExternals> {
  const { recorded } = request;
  const wanted = externalNames(situation, recorded);
  const networks = (await absent(wanted.networks, (name) => hasNetwork(engine, name))).map((name) => ({
    name,
    then: recorded?.networks?.find((each) => each.name === name),
  }));
  const volumes = (await absent(wanted.volumes, (name) => hasVolume(engine, name))).map((name) => ({
    name,
    then: recorded?.volumes.find((each) => each.name === name),
  }));
  refuseLacking(situation.files.project, [
    ...networks
      .filter(({ then }) => then === undefined || !canCreate(then))
      .map(({ name, then }) => ({ what: `the network ${name}`, line: networkLine(name, then) })),
    ...volumes
      .filter(({ then }) => then?.hasOptions !== false)
      .map(({ name, then }) => ({ what: `the volume ${name}`, line: volumeLine(name, then) })),
    ...(await lackingFiles(situation, request)),
  ]);
  return {
    networks: networks.flatMap(({ then }) => then ?? []),
    volumes: volumes.flatMap(({ then }) => then ?? []),
  };
}

function refuseLacking(project: string, lacking: readonly Lacking[]): void {
  if (lacking.length === 0) return;
  const what = lacking.map((each) => each.what).join(', ');
  const hasFile = lacking.some((each) => each.what.startsWith('the file '));
  throw new RestoreRefusedError(
    `The containers of the project ${project} need ${what}: neither on this machine nor in the snapshot`,
    {
      hint: `Create what is missing${hasFile ? ', or copy the files there (these lines create empty ones)' : ''}, then run this again: ${lacking.map(({ line }) => line).join('; ')}`,
    },
  );
}

/** Until the Compose files are back, the record says what the services need. */
function externalNames({ model, missing }: Situation, recorded: ProvisionRequest['recorded']): ExternalNames {
  if (model === undefined) {
    const networks = (recorded?.networks ?? []).filter(({ services }) =>
      services.some((service) => missing.includes(service)),
    );
    const volumes = externalVolumes(recorded).filter(({ service }) => missing.includes(service));
    return { networks: networks.map(({ name }) => name), volumes: volumes.map(({ name }) => name) };
  }
  const services = missing.flatMap((name) => model.services.get(name) ?? []);
  const external = (keys: readonly string[], of: typeof model.volumes): string[] =>
    keys.flatMap((key) => {
      const shared = of.get(key);
      return shared?.external === true ? [shared.name] : [];
    });
  return {
    networks: external(
      services.flatMap(({ networks }) => networks),
      model.networks,
    ),
    volumes: external(
      services.flatMap(({ mounts }) =>
        mounts.flatMap(({ type, source }) => (type === 'volume' ? source : [])),
      ),
      model.volumes,
    ),
  };
}

async function absent(
  names: readonly string[],
  isThere: (name: string) => Promise<boolean>,
): Promise<readonly string[]> {
  const unique = [...new Set(names)].sort();
  const there = await Promise.all(unique.map(isThere));
  return unique.filter((_, i) => there[i] === false);
}

/** For a person: what {@link createExternals} will do. */
export const externalSteps = ({ networks, volumes }: MissingExternals): readonly string[] => [
  ...networks.map(
    ({ name, driver, ranges }) =>
      `Create the network ${name}, which the Compose files expect to be there (${[driver, ...ranges.map(({ subnet }) => subnet)].join(', ')})`,
  ),
  ...volumes.map(({ name }) => `Create the volume ${name}, which the Compose files expect to be there`),
];

/** What {@link createExternals} has created: ids of networks, names of volumes. */
interface CreatedExternals {
  readonly networks: string[];
  readonly volumes: string[];
}

/** Creates them; `created` has each as soon as it exists. */
export async function createExternals(
  engine: Engine,
  { networks, volumes }: MissingExternals,
  created: CreatedExternals,
  ctx: OperationContext,
): Promise<void> {
  for (const network of networks) created.networks.push(await createNetwork(engine, network, ctx));
  for (const { name, driver, labels } of volumes) {
    await engine.createVolume({ Name: name, Driver: driver, Labels: labels }).catch((error: unknown) => {
      throw engineError(error, `Cannot create the volume ${name}`);
    });
    created.volumes.push(name);
  }
}
