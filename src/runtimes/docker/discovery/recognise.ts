import type { Kinds, RecognitionSlot } from '../../../ports/kind.ts';
import { serviceLabel, type ProjectContainer } from '../project/project.ts';

/** A kind of store that can have a container of its own. */
export interface StoreTraits extends RecognitionSlot {
  readonly kind: string;
}

/** Of all kinds those that can have a container of their own. */
export const storeTraits = (kinds: Kinds): readonly StoreTraits[] =>
  kinds.flatMap(({ name, recognition }) =>
    recognition === undefined ? [] : [{ kind: name, ...recognition }],
  );

/** How a service says which store it is. */
interface Recognition {
  /** `none` for a service whose label says that it is no store. */
  readonly store: StoreTraits | 'none';
  readonly by: 'label' | 'image' | 'port';
}

/** What a container tells by label, image name or the ports it exposes, in that order; undefined for nothing. */
export function recognise(
  container: Pick<ProjectContainer, 'labels' | 'image' | 'exposedPorts'>,
  stores: readonly StoreTraits[],
): Recognition | undefined {
  const label = container.labels[serviceLabel]?.toLowerCase();
  if (label !== undefined) {
    const named = stores.find(({ labels }) => labels.includes(label));
    return { store: named ?? 'none', by: 'label' };
  }
  // `ghcr.io/org/postgres:15@sha256:…` is a postgres.
  const image = container.image.replace(/@.*$/, '').split('/').at(-1)?.replace(/:.*$/, '') ?? '';
  const byImage = stores.find(({ images }) => images.test(image));
  if (byImage !== undefined) return { store: byImage, by: 'image' };
  const byPort = stores.find(
    ({ isPortTelling, port }) => isPortTelling && container.exposedPorts.includes(port),
  );
  return byPort === undefined ? undefined : { store: byPort, by: 'port' };
}

/** Whether a container says that it runs a store. */
export function isStore(
  container: Pick<ProjectContainer, 'labels' | 'image' | 'exposedPorts'>,
  stores: readonly StoreTraits[],
): boolean {
  const told = recognise(container, stores);
  return told !== undefined && told.store !== 'none';
}
