import { RestoreRefusedError } from '../../../model/errors.ts';
import type { ComposeRecord, RecordedService } from '../../../model/manifest.ts';
import type { StoreService } from '../../../ports/provisioner.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';

/** An image that is here. */
interface LocalImage {
  /** `sha256:…` */
  readonly id: string;
  readonly repoDigests: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

/** What a service runs, or would. */
export interface ServiceImage {
  readonly service: string;
  /** As the Compose file names it. */
  readonly reference: string;
  /** Known to be built from sources, not pulled. */
  readonly built: boolean;
  /** Of the container that is there; undefined where one would be created from `reference`. */
  readonly imageId: string | undefined;
}

/** None is null to the Engine, which the client's types do not say. */
export const orElse = <T>(value: T | null | undefined, none: T): T => value ?? none;

/** Looks at an image by id, name or digest; undefined when it is not here. */
export async function inspectImage(engine: Engine, reference: string): Promise<LocalImage | undefined> {
  try {
    const { Id: id, RepoDigests: repoDigests, Config: config } = await engine.getImage(reference).inspect();
    return {
      id,
      repoDigests: orElse(repoDigests, []),
      labels: orElse(config.Labels, {}),
      environment: Object.fromEntries(
        orElse(config.Env, []).map((entry) => {
          const at = entry.indexOf('=');
          return [entry.slice(0, at), entry.slice(at + 1)];
        }),
      ),
    };
  } catch (error) {
    if (engineStatus(error) === 404) return undefined;
    throw engineError(error, `Cannot inspect the image ${reference}`);
  }
}

/** @throws RestoreRefusedError naming every image that is needed and not here, and how to get each */
export async function requireImages(
  engine: Engine,
  images: readonly ServiceImage[],
  recorded: ComposeRecord | undefined,
): Promise<void> {
  const missing: ServiceImage[] = [];
  for (const image of images) {
    if (image.imageId === undefined && (await inspectImage(engine, image.reference)) === undefined)
      missing.push(image);
  }
  if (missing.length === 0) return;
  const then = (service: string): RecordedService | undefined =>
    recorded?.services.find(({ name }) => name === service);
  const wasBuilt = ({ service, built }: ServiceImage): boolean =>
    built || then(service)?.repoDigests.length === 0;
  const names = missing.map((image) => {
    const how = wasBuilt(image) ? ', built locally' : '';
    return `${image.reference} (${image.service}${how})`;
  });
  const ways = missing.map((image) => {
    if (wasBuilt(image)) {
      return image.built
        ? `build it: docker compose build ${image.service}`
        : `build it, or load it from where it was built: ${image.reference}`;
    }
    const digest = then(image.service)?.repoDigests[0];
    if (digest === undefined || image.reference.includes('@')) return `docker pull ${image.reference}`;
    return `docker pull ${digest} && docker tag ${digest} ${image.reference}`;
  });
  throw new RestoreRefusedError(
    `${missing.length === 1 ? 'An image is' : 'Images are'} not on this machine: ${names.join(', ')}`,
    { hint: `Get ${missing.length === 1 ? 'it' : 'them'} first: ${[...new Set(ways)].join('; ')}` },
  );
}

/**
 * What would run differently from the capture.
 * @throws RestoreRefusedError when a store's image says that it is older than the one captured
 */
export async function compareImages(
  engine: Engine,
  images: readonly ServiceImage[],
  recorded: ComposeRecord | undefined,
  stores: readonly StoreService[],
): Promise<readonly string[]> {
  const warnings: string[] = [];
  for (const image of images) {
    const now = await inspectImage(engine, image.imageId ?? image.reference);
    const store = stores.find(({ service }) => service === image.service);
    if (now !== undefined && store !== undefined) refuseOlder(store, image.reference, now);
    const then = recorded?.services.find(({ name }) => name === image.service);
    if (now === undefined || then === undefined || isSame(now, then)) continue;
    warnings.push(await differenceOf(engine, image, now, then));
  }
  return warnings;
}

const isSame = (now: LocalImage, then: RecordedService): boolean =>
  now.id === then.imageId || now.repoDigests.some((digest) => then.repoDigests.includes(digest));

async function differenceOf(
  engine: Engine,
  { service, reference }: ServiceImage,
  now: LocalImage,
  then: RecordedService,
): Promise<string> {
  const difference = `${service} runs ${reference} as ${nameOf(now.repoDigests, now.id)}; at the capture it was ${nameOf(then.repoDigests, then.imageId)}`;
  for (const candidate of [then.imageId, ...then.repoDigests]) {
    if ((await inspectImage(engine, candidate)) === undefined) continue;
    const digest = then.repoDigests[0];
    const pin =
      digest === undefined
        ? `run docker tag ${then.imageId} ${then.image}`
        : `write image: ${pinned(then.image, digest)} for ${service} in the Compose file`;
    return `${difference}, which is on this machine: to go back to it, ${pin}`;
  }
  return difference;
}

const nameOf = (repoDigests: readonly string[], id: string): string => repoDigests[0] ?? id;

/** `postgres:15` and `postgres@sha256:…` make `postgres:15@sha256:…`. */
function pinned(image: string, digest: string): string {
  return `${image.replace(/@.*$/, '')}@${digest.slice(digest.indexOf('@') + 1)}`;
}

/** Where the official images say which version is in them. */
const versionVariables: Readonly<Record<string, readonly string[]>> = {
  postgres: ['PG_MAJOR', 'PG_VERSION'],
  redis: ['REDIS_VERSION', 'VALKEY_VERSION'],
};

/** A whole version back is never loadable; where versions are closer the component itself knows. */
function refuseOlder({ component, kind, version }: StoreService, reference: string, image: LocalImage): void {
  const variable = (versionVariables[kind] ?? []).find((name) => image.environment[name] !== undefined);
  if (variable === undefined || version === undefined) return;
  const offered = image.environment[variable] ?? '';
  const [here, captured] = [majorOf(offered), majorOf(version)];
  if (here === undefined || captured === undefined || here >= captured) return;
  throw new RestoreRefusedError(
    `Cannot restore ${component}: it was captured from version ${version}, and ${reference} holds version ${offered}`,
    { hint: `Name an image of version ${captured} or later in the Compose file.` },
  );
}

function majorOf(version: string): number | undefined {
  const digits = /\d+/.exec(version)?.[0];
  return digits === undefined ? undefined : Number(digits);
}
