import type { ProjectContainer } from './project.ts';

/** Stores tars captures, as services of a Compose project. */
export type StoreKind = 'postgres' | 'redis' | 'chroma' | 'ollama';

/** What a store's container is like when nothing says otherwise: the official images' defaults. */
export const storePorts: Readonly<Record<StoreKind, number>> = {
  postgres: 5432,
  redis: 6379,
  chroma: 8000,
  ollama: 11434,
};

/** Set by the operator on a service whose image name says nothing; the value is a {@link StoreKind} or `none`. */
const serviceLabel = 'com.tars.service';

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

/** Which store a container runs, by label, image name or the ports it exposes, in that order; undefined for none. */
export function recogniseStore(
  container: Pick<ProjectContainer, 'labels' | 'image' | 'exposedPorts'>,
): StoreKind | undefined {
  const label = container.labels[serviceLabel]?.toLowerCase();
  if (label !== undefined) return labelValues[label];
  // `ghcr.io/org/postgres:15@sha256:…` is a postgres.
  const image = container.image.replace(/@.*$/, '').split('/').at(-1)?.replace(/:.*$/, '') ?? '';
  const byImage = imageNames.find(([, pattern]) => pattern.test(image));
  if (byImage !== undefined) return byImage[0];
  // 8000 is anybody's port; the others are as good as a name.
  const byPort = Object.entries(storePorts).filter(([kind]) => kind !== 'chroma');
  return byPort.find(([, port]) => container.exposedPorts.includes(port))?.[0] as StoreKind | undefined;
}
