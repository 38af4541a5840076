import { isWithin } from '../../../model/captured-place.ts';
import { argumentWords } from '../../../model/container-arguments.ts';
import { programsOf, type ContainerProgram } from '../../../model/container-programs.ts';
import type { Kinds, RecognitionSlot } from '../../../ports/kind.ts';
import { isAnonymous } from './state-places.ts';
import { serviceLabel, type ContainerMount, type ProjectContainer } from '../project/project.ts';

/** A kind of store that can have a container of its own. */
export interface StoreTraits extends RecognitionSlot {
  readonly kind: string;
}

/** Of all kinds those that can have a container of their own. */
export const storeTraits = (kinds: Kinds): readonly StoreTraits[] =>
  kinds.flatMap(({ name, recognition }) =>
    recognition === undefined ? [] : [{ kind: name, ...recognition }],
  );

/** What a container or a Compose file tells of a service. */
export interface RecognisedService extends Pick<
  ProjectContainer,
  'labels' | 'image' | 'exposedPorts' | 'environment' | 'argv'
> {
  /** The source of a volume is its name, where the mount does not have the name beside. */
  readonly mounts: readonly Pick<ContainerMount, 'type' | 'source' | 'destination' | 'volume'>[];
  readonly hasFinished?: boolean | undefined;
}

/** How a service says which store it is. */
type Recognition =
  | { readonly store: StoreTraits; readonly by: 'label' | 'image' | 'port' }
  /** Its label says that it is no store, or what it runs does. */
  | { readonly store: 'none'; readonly why?: string }
  /** It may be a store of that kind: only its server can tell. */
  | { readonly store: 'unknown' };

/**
 * What a service tells by its label, by its image's name or the ports it exposes, and by what it runs and keeps, in that
 * order; undefined for nothing. A store has its server for a program or its data in a place of its own: jobs and backups
 * have its image, poolers and proxies its port.
 */
export function recognise(
  service: RecognisedService,
  stores: readonly StoreTraits[],
): Recognition | undefined {
  const label = service.labels[serviceLabel]?.toLowerCase();
  if (label !== undefined) {
    const named = stores.find(({ labels }) => labels.includes(label));
    return named === undefined ? { store: 'none' } : { store: named, by: 'label' };
  }
  // `ghcr.io/org/postgres:15@sha256:…` is a postgres.
  const image = service.image.replace(/@.*$/, '').split('/').at(-1)?.replace(/:.*$/, '') ?? '';
  const byImage = stores.find(({ images }) => images.test(image));
  const byPort = stores.find(
    ({ isPortTelling, port }) => isPortTelling && service.exposedPorts.includes(port),
  );
  const store = byImage ?? byPort;
  if (store === undefined) return undefined;
  const programs = programsOf(service);
  const isOwn = runsServer(service, store) || hasNamedData(service, store);
  const by = byImage === undefined ? 'port' : 'image';
  if (runsClients(programs, store)) {
    const names = [...new Set(programs.map(({ name }) => name))].join(', ');
    return { store: 'none', why: `runs ${names}, not a server of ${store.title}` };
  }
  if (isOwn) return { store, by };
  const isTold = by === 'image' && service.hasFinished !== true && !runsMountedScript(service);
  return isTold ? { store, by } : { store: 'unknown' };
}

/** Whether it has a store's image or port, and is a job: it runs clients, or has ended and is no store that it says. */
export function isJob(service: RecognisedService, stores: readonly StoreTraits[]): boolean {
  const told = recognise(service, stores);
  if (told?.store === 'none') return told.why !== undefined;
  return told?.store === 'unknown' && service.hasFinished === true;
}

/** Whether a container says that it runs a store. */
export const isStore = (service: RecognisedService, stores: readonly StoreTraits[]): boolean =>
  storeOf(service, stores) !== undefined;

/** The store that a container says it runs. */
export function storeOf(service: RecognisedService, stores: readonly StoreTraits[]): StoreTraits | undefined {
  const told = recognise(service, stores);
  return told === undefined || typeof told.store === 'string' ? undefined : told.store;
}

/** Why what answers as `store` is none: poolers and proxies answer alike, and keep nothing. Undefined for a store. */
export function reasonNoStore(service: RecognisedService, store: StoreTraits): string | undefined {
  if (store.isAnswerTelling !== false || runsServer(service, store) || dataMounts(service, store).length > 0)
    return undefined;
  return `answers as ${store.title} and keeps nothing in ${store.expectedDirectory(service)}: tars takes it for a pooler or a proxy`;
}

/** Whether its command line names the kind's server. */
export const runsServer = (service: Pick<RecognisedService, 'argv'>, store: StoreTraits): boolean =>
  programsOf(service).some((program) => store.programRole?.(program) === 'server');

/** Programs that no server is made of. `true` and `false` may stand for any other. */
const utilities =
  /^(:|\[|awk|apk|apt-get|cat|cd|chmod|chown|cp|curl|cut|date|echo|exit|export|grep|head|jq|ls|mkdir|mv|nc|printf|read|rm|sed|seq|set|sleep|tail|tee|test|touch|tr|trap|wait|wget|xargs)$/;

/** Whether every program is known, and none is a server. */
const runsClients = (programs: readonly ContainerProgram[], store: StoreTraits): boolean =>
  programs.length > 0 &&
  programs.every((program) => store.programRole?.(program) === 'client' || utilities.test(program.name));

/** What is mounted where the kind keeps its data. */
function dataMounts(service: RecognisedService, store: StoreTraits): RecognisedService['mounts'] {
  const directory = store.expectedDirectory(service);
  return service.mounts.filter(
    ({ type, destination }) => type !== 'tmpfs' && isWithin(directory, destination),
  );
}

/** Images of jobs and backups declare the volume too, so that only one that somebody has named tells. */
const hasNamedData = (service: RecognisedService, store: StoreTraits): boolean =>
  dataMounts(service, store).some(
    ({ type, volume, source }) => type === 'bind' || !isAnonymous(volume ?? source),
  );

/** Whether its command is a file that the project mounts, which may do anything. */
const runsMountedScript = (service: RecognisedService): boolean =>
  argumentWords(service).some((word) =>
    service.mounts.some(({ type, destination }) => type === 'bind' && isWithin(word, destination)),
  );
