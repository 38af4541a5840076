import { isWithin } from '../../../model/captured-place.ts';
import type { PlaceLook } from './look.ts';
import type { StatePlace } from './state-places.ts';

/** What is known of a place beside its mounts. */
export interface PlaceEvidence {
  readonly look: PlaceLook;
  /** Undefined where finding out takes long. */
  readonly sizeBytes: number | undefined;
  /** Images of the services that have it. */
  readonly images: readonly string[];
}

/** Directories of the machine itself. */
const machinePaths =
  /^\/(dev|proc|sys|boot|run(?!\/media\/)|var\/run|lib\/modules|var\/lib\/(docker|containerd))(\/|$)/;
/** The same, where a container may only read them. */
const machineFiles =
  /^\/($|(usr|bin|sbin|lib|lib64)(\/|$)|etc\/(ssl|pki|ca-certificates|machine-id|os-release)(\/|$))/;
const timeZone = /^\/(etc\/(localtime|timezone)|usr\/share\/zoneinfo(\/.*)?)$/;

const cacheName = /(^|[-_.])caches?$/i;
const logName = /(^|[-_.])logs?$/i;
const temporaryName = /^\.?(tmp|temp)$/i;
const modelName =
  /^(huggingface|hf[-_](home|hub)|torch|sentence[-_]transformers|nltk_data|whisper[-_]models)$/i;
const packageName = /^(node_modules|\.npm|\.?pnpm-store|\.yarn|site-packages|__pycache__|\.venv|venv)$/;
const packagePath = /\/(go\/pkg\/mod|\.cargo\/registry|\.cargo\/git)$/;

/** Images that download what they keep at a path. */
const downloads: readonly { readonly image: RegExp; readonly inside: string }[] = [
  { image: /(^|\/)text-(embeddings|generation)-inference([:@]|$)/, inside: '/data' },
];

/** Files that no one downloads again: databases and keys. */
const stateName = /\.(db3?|sqlite3?|mdb|duckdb|kdbx|pem|key)$|^(id_rsa|id_ed25519)$/i;
/** Files that are kept in version control. */
const sourceName =
  /^(\.git|package\.json|pyproject\.toml|requirements\.txt|go\.mod|Cargo\.toml|pom\.xml|composer\.json|Gemfile)$/;

/** Beyond that, what no service writes is no configuration. */
const configurationBytesMax = 64 << 20;

/**
 * Why a restore need not bring a place back: by its name, by the images of its services, by what lies in it. Undefined
 * for what is to be captured. What lies there decides before a name does: a "cache" with a database is captured.
 */
export function reasonToLeaveOut(place: StatePlace, evidence: PlaceEvidence): string | undefined {
  return (
    ofMachine(place, evidence) ??
    ofReadOnly(place, evidence) ??
    ofContent(evidence) ??
    ofName(place, evidence)
  );
}

function ofMachine({ type, source, mounts }: StatePlace, { look }: PlaceEvidence): string | undefined {
  if (type !== 'bind') return undefined;
  if (timeZone.test(source)) return 'the time zone of this machine';
  const isUnseen = look.kind === 'missing' || look.kind === 'unknown';
  if (look.kind === 'socket' || (isUnseen && source.endsWith('.sock'))) return 'a socket';
  const readOnly = mounts.every((mount) => mount.readOnly);
  const isMachine = machinePaths.test(source) || (readOnly && machineFiles.test(source));
  return isMachine ? 'belongs to this machine' : undefined;
}

function ofReadOnly({ type, mounts }: StatePlace, { look, sizeBytes }: PlaceEvidence): string | undefined {
  if (type !== 'bind' || look.kind === 'file' || !mounts.every((mount) => mount.readOnly)) return undefined;
  if (look.names.some((name) => sourceName.test(name))) return 'sources, which no service writes';
  if (!look.canAccess || (sizeBytes !== undefined && sizeBytes <= configurationBytesMax)) return undefined;
  return 'large, and no service writes it';
}

function ofContent({ look }: PlaceEvidence): string | undefined {
  if (look.names.includes('CACHEDIR.TAG')) return 'a cache, by its CACHEDIR.TAG';
  const isHub = (name: string): boolean => /^(hub\/)?(models|datasets)--/.test(name);
  return [...look.names, ...look.below].some(isHub) ? 'models that are downloaded again' : undefined;
}

function ofName(place: StatePlace, { look, images }: PlaceEvidence): string | undefined {
  if ([...look.names, ...look.below].some((name) => stateName.test(name.split('/').at(-1) ?? '')))
    return undefined;
  const downloaded = place.mounts.some(({ destination }) =>
    downloads.some(({ image, inside }) => inside === destination && images.some((name) => image.test(name))),
  );
  if (downloaded) return 'models that are downloaded again';
  // What services call it tells what it is for; the name of a volume does not.
  const reasons = place.mounts.map(({ destination }) => reasonOfPath(destination));
  return reasons.every((reason) => reason !== undefined) ? reasons[0] : undefined;
}

function reasonOfPath(path: string): string | undefined {
  const steps = path.split('/').filter((step) => step !== '');
  const last = steps.at(-1) ?? '';
  if (modelName.test(last) || /^model[-_]caches?$/i.test(last)) return 'models that are downloaded again';
  if (packageName.test(last) || packagePath.test(path)) return 'packages that are installed again';
  if (steps.includes('.cache') || cacheName.test(last)) return 'a cache';
  if (isWithin(path, '/var/log') || logName.test(last)) return 'logs';
  if (isWithin(path, '/tmp') || isWithin(path, '/var/tmp') || temporaryName.test(last))
    return 'temporary files';
  // Compose puts secrets there.
  if (isWithin(path, '/run/secrets')) return undefined;
  if (isWithin(path, '/run') || isWithin(path, '/var/run')) return 'sockets and process ids';
  return isWithin(path, '/dev') ? 'devices' : undefined;
}
