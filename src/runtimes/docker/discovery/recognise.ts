import { serviceLabel, type ProjectContainer } from '../project/project.ts';

/** Stores tars captures, as services of a Compose project. */
export type StoreKind = 'postgres' | 'redis' | 'chroma' | 'ollama';

/** Every {@link StoreKind}. */
export const storeKinds = ['postgres', 'redis', 'chroma', 'ollama'] as const satisfies readonly StoreKind[];

/** What a store's container is like when nothing says otherwise: the official images' defaults. */
export const storePorts: Readonly<Record<StoreKind, number>> = {
  postgres: 5432,
  redis: 6379,
  chroma: 8000,
  ollama: 11434,
};

/** What {@link serviceLabel} may say; anything else, such as `none`, is no store. */
const labelValues: Readonly<Record<string, StoreKind>> = {
  postgres: 'postgres',
  postgresql: 'postgres',
  redis: 'redis',
  valkey: 'redis',
  chroma: 'chroma',
  chromadb: 'chroma',
  ollama: 'ollama',
};

/** Last words of image names without registry, tag and digest. */
const imageNames: readonly (readonly [StoreKind, RegExp])[] = [
  [
    'postgres',
    /^(postgres(ql)?|postgis|pgvector|timescaledb(-ha)?|paradedb|pgvecto-rs|vectorchord-postgres)$/,
  ],
  ['redis', /^(redis|valkey|redis-stack(-server)?|valkey-bundle)$/],
  ['chroma', /^(chroma|chromadb)$/],
  ['ollama', /^ollama$/],
];

/** How a service says which store it is. */
interface Recognition {
  /** `none` for a service whose label says that it is no store. */
  readonly kind: StoreKind | 'none';
  readonly by: 'label' | 'image' | 'port';
}

/** What a container tells by label, image name or the ports it exposes, in that order; undefined for nothing. */
export function recognise(
  container: Pick<ProjectContainer, 'labels' | 'image' | 'exposedPorts'>,
): Recognition | undefined {
  const label = container.labels[serviceLabel]?.toLowerCase();
  if (label !== undefined) return { kind: labelValues[label] ?? 'none', by: 'label' };
  // `ghcr.io/org/postgres:15@sha256:…` is a postgres.
  const image = container.image.replace(/@.*$/, '').split('/').at(-1)?.replace(/:.*$/, '') ?? '';
  const byImage = imageNames.find(([, pattern]) => pattern.test(image));
  if (byImage !== undefined) return { kind: byImage[0], by: 'image' };
  // 8000 is anybody's port; the others are as good as a name.
  const byPort = storeKinds.find(
    (kind) => kind !== 'chroma' && container.exposedPorts.includes(storePorts[kind]),
  );
  return byPort === undefined ? undefined : { kind: byPort, by: 'port' };
}

/** Which store a container runs; undefined for none. */
export function recogniseStore(
  container: Pick<ProjectContainer, 'labels' | 'image' | 'exposedPorts'>,
): StoreKind | undefined {
  const kind = recognise(container)?.kind;
  return kind === 'none' ? undefined : kind;
}
