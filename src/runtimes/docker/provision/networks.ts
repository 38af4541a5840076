import { z } from 'zod';
import type { RecordedNetwork } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { networkLine } from '../../../model/surroundings.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';
import { composeLabels, type Project } from '../project/project.ts';

const strings = z.record(z.string(), z.string()).nullish();
const networkSchema = z.object({
  Id: z.string(),
  Driver: z.string(),
  Scope: z.string(),
  Internal: z.boolean(),
  Attachable: z.boolean(),
  EnableIPv6: z.boolean(),
  Options: strings,
  Labels: strings,
  IPAM: z.object({
    Config: z
      .array(
        z.object({
          Subnet: z.string().optional(),
          Gateway: z.string().optional(),
          IPRange: z.string().optional(),
        }),
      )
      .nullish(),
  }),
});

/** Networks that every Engine has. */
const predefined = ['bridge', 'host', 'none'];

/** The networks of the project's containers that Compose did not create for it. */
export async function recordNetworks(
  engine: Engine,
  { name: project, containers }: Pick<Project, 'name' | 'containers'>,
): Promise<RecordedNetwork[]> {
  const names = new Set(containers.flatMap(({ networks }) => [...(networks?.keys() ?? [])]));
  const found = await Promise.all(
    [...names].sort().map(async (name): Promise<RecordedNetwork[]> => {
      const network = predefined.includes(name) ? undefined : await readNetwork(engine, name);
      if (network === undefined || network.Labels?.[composeLabels.project] === project) return [];
      const members = containers.filter(({ networks }) => networks?.has(name));
      return [
        {
          ...{ name, driver: network.Driver, scope: network.Scope, internal: network.Internal },
          ...{ attachable: network.Attachable, ipv6: network.EnableIPv6 },
          ...{ options: network.Options ?? {}, labels: network.Labels ?? {} },
          services: [...new Set(members.map(({ service }) => service))].sort(),
          ranges: (network.IPAM.Config ?? []).flatMap(
            ({ Subnet: subnet, Gateway: gateway, IPRange: ipRange }) =>
              subnet === undefined || subnet === ''
                ? []
                : [{ subnet, ...(gateway ? { gateway } : {}), ...(ipRange ? { ipRange } : {}) }],
          ),
          hasFixedAddress: members.some(({ networks }) => networks?.get(name)?.isFixed === true),
        },
      ];
    }),
  );
  return found.flat();
}

async function readNetwork(engine: Engine, name: string): Promise<z.infer<typeof networkSchema> | undefined> {
  try {
    // A network may be called anything.
    return networkSchema.parse(await engine.getNetwork(encodeURIComponent(name)).inspect());
  } catch (error) {
    if (engineStatus(error) === 404) return undefined;
    throw engineError(error, `Cannot inspect the network ${name}`);
  }
}

/** Whether the Engine has a network of that name. */
export const hasNetwork = async (engine: Engine, name: string): Promise<boolean> =>
  (await readNetwork(engine, name)) !== undefined;

/** Only a manager of a swarm creates others. */
export const canCreate = ({ scope }: RecordedNetwork): boolean => scope === 'local';

/**
 * Creates a network as it was recorded, and returns its id. Its addresses may be taken on another machine: where no
 * service has a fixed one, the Engine then chooses others.
 * @throws TarsError with the line that creates it
 */
export async function createNetwork(
  engine: Engine,
  recorded: RecordedNetwork,
  { log }: OperationContext,
): Promise<string> {
  const { name, hasFixedAddress, ranges } = recorded;
  try {
    return await requestNetwork(engine, recorded);
  } catch (error) {
    const isTaken = /overlap/i.test(String(error)) && ranges.length > 0 && !hasFixedAddress;
    if (!isTaken) throw failure(error, recorded);
    const taken = ranges.map(({ subnet }) => subnet).join(', ');
    log.warn(`The network ${name} gets other addresses than at the capture, because ${taken} is taken`);
    try {
      return await requestNetwork(engine, { ...recorded, ranges: [] });
    } catch (second) {
      throw failure(second, recorded);
    }
  }
}

const failure = (error: unknown, recorded: RecordedNetwork): Error =>
  engineError(error, `Cannot create the network ${recorded.name} (${networkLine(recorded.name, recorded)})`);

async function requestNetwork(
  engine: Engine,
  { name, driver, internal, attachable, ipv6, options, labels, ranges }: RecordedNetwork,
): Promise<string> {
  const created = await engine.createNetwork({
    ...{ Name: name, Driver: driver, Internal: internal, Attachable: attachable, EnableIPv6: ipv6 },
    ...{ Options: options, Labels: labels, CheckDuplicate: true },
    ...(ranges.length === 0
      ? {}
      : {
          IPAM: {
            Config: ranges.map(({ subnet, gateway, ipRange }) => ({
              Subnet: subnet,
              ...(gateway === undefined ? {} : { Gateway: gateway }),
              ...(ipRange === undefined ? {} : { IPRange: ipRange }),
            })),
          },
        }),
  });
  return created.id;
}
