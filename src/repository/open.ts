import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { throwIfAborted } from '../model/abort.ts';
import { CorruptionError, TarsError, type ErrorCode } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import type { StorageBackend, StorageFileType } from '../ports/storage.ts';
import { decodeConfig, encodeConfig, newConfig, type RepositoryConfig } from './format/config-file.ts';
import { SealingKey } from './format/crypto.ts';
import { dateToNs } from './format/go-time.ts';
import { encodeKeyFile, openKeyFile } from './format/key-file.ts';
import { decodeUnpacked, encodeUnpacked } from './format/unpacked.ts';
import { userName } from './lock/lock-record.ts';

/** Files that hold one sealed JSON document. */
type UnpackedFileType = Extract<StorageFileType, 'index' | 'snapshots' | 'locks'>;

/** A repository whose master key is known. Holds no resources of its own. */
export interface OpenedRepository {
  readonly storage: StorageBackend;
  /** The repository's id, 64 hex digits. */
  readonly id: string;
  readonly config: RepositoryConfig;
  /** The master key. */
  readonly crypto: SealingKey;
  /** The key file that opened the repository, 64 hex digits. */
  readonly keyName: string;
  /**
   * The JSON text of an index, snapshot or lock file, its name checked against its content.
   * @throws TarsError `storage-not-found`
   * @throws CorruptionError
   */
  loadUnpacked(type: UnpackedFileType, name: string, signal: AbortSignal): Promise<string>;
  /** Compresses (from format version 2 on), seals and stores `json`. Returns the new file's name. */
  saveUnpacked(type: UnpackedFileType, json: string, signal: AbortSignal): Promise<string>;
}

const configFile = { type: 'config', name: '' } as const;

/**
 * Creates a repository of format version 2. The configuration is written last: without it there is no repository.
 * @throws TarsError `repository-exists`
 */
export async function createRepository(
  storage: StorageBackend,
  password: string,
  ctx: OperationContext,
): Promise<OpenedRepository> {
  requirePassword(password);
  await refuseExisting(storage, ctx.signal);
  const config = newConfig();
  const key = SealingKey.generate();
  const keyName = await addKey({ storage, crypto: key }, password, ctx);
  await storage.save(configFile, [key.seal(encodeConfig(config))], ctx.signal);
  return assemble(storage, config, { crypto: key, keyName });
}

async function refuseExisting(storage: StorageBackend, signal: AbortSignal): Promise<void> {
  try {
    await storage.create(signal);
  } catch (cause) {
    if (!(cause instanceof TarsError && cause.code === 'storage-exists')) throw cause;
    throw new TarsError('repository-exists', `There is already a repository at ${storage.location}`, {
      hint: 'Use it as it is, or choose another location in tars.yaml.',
      cause,
    });
  }
}

/**
 * Opens a repository with any of its keys' passwords.
 * @throws TarsError `repository-not-found` | `wrong-password` | `unsupported-version`
 * @throws CorruptionError when the configuration is damaged
 */
export async function openRepository(
  storage: StorageBackend,
  password: string,
  ctx: OperationContext,
): Promise<OpenedRepository> {
  const sealedConfig = await loadConfig(storage, ctx.signal);
  const key = await findKey(storage, password, ctx);
  const config = decodeConfig(key.crypto.open(sealedConfig, 'the repository configuration'));
  return assemble(storage, config, key);
}

async function loadConfig(storage: StorageBackend, signal: AbortSignal): Promise<Uint8Array> {
  try {
    return await storage.load(configFile, undefined, signal);
  } catch (cause) {
    if (!(cause instanceof TarsError && cause.code === 'storage-not-found')) throw cause;
    throw new TarsError('repository-not-found', `There is no repository at ${storage.location}`, {
      hint: 'Mount its disk, or correct repository.path in tars.yaml. If there never was a repository, run tars init.',
      cause,
    });
  }
}

const passedOver: ReadonlySet<ErrorCode> = new Set([
  'corruption',
  'unsupported-version',
  'storage-not-found',
]);

type FoundKey = Pick<OpenedRepository, 'crypto' | 'keyName'>;

async function findKey(storage: StorageBackend, password: string, ctx: OperationContext): Promise<FoundKey> {
  let unusable: TarsError | undefined;
  for await (const { name } of storage.list('keys', ctx.signal)) {
    throwIfAborted(ctx.signal);
    try {
      const content = await storage.load({ type: 'keys', name }, undefined, ctx.signal);
      const crypto = await openKeyFile(content, password, name);
      if (crypto) return { crypto, keyName: name };
    } catch (error) {
      // One key that is damaged, too new or just removed must not lock out the others.
      if (!(error instanceof TarsError) || !passedOver.has(error.code)) throw error;
      ctx.log.warn(error.message);
      unusable = error;
    }
  }
  if (unusable?.code === 'unsupported-version') throw unusable;
  throw new TarsError(
    'wrong-password',
    `No key of the repository at ${storage.location} opens with this password`,
    {
      hint: 'Check TARS_PASSWORD, TARS_PASSWORD_FILE or the file named in tars.yaml.',
      ...(unusable === undefined ? {} : { cause: unusable }),
    },
  );
}

/** Adds a key that opens the repository with `password`. Returns the key's name. */
export async function addKey(
  repository: Pick<OpenedRepository, 'storage' | 'crypto'>,
  password: string,
  ctx: OperationContext,
): Promise<string> {
  requirePassword(password);
  const origin = {
    createdNs: dateToNs(ctx.clock.now()),
    hostname: hostname(),
    username: userName(),
  };
  const content = await encodeKeyFile(repository.crypto, password, origin);
  const name = sha256Hex(content);
  await repository.storage.save({ type: 'keys', name }, [content], ctx.signal);
  return name;
}

function requirePassword(password: string): void {
  if (password !== '') return;
  throw new TarsError('configuration', 'The repository password is empty', {
    hint: 'Set TARS_PASSWORD, TARS_PASSWORD_FILE or TARS_PASSWORD_COMMAND.',
  });
}

function assemble(
  storage: StorageBackend,
  config: RepositoryConfig,
  { crypto: key, keyName }: FoundKey,
): OpenedRepository {
  return {
    storage,
    id: config.id,
    config,
    crypto: key,
    keyName,
    async loadUnpacked(type, name, signal) {
      const sealed = await storage.load({ type, name }, undefined, signal);
      const what = `${type === 'index' ? 'index' : type.slice(0, -1)} ${name}`;
      if (sha256Hex(sealed) !== name) {
        throw new CorruptionError(
          `The content of ${what} does not match its name: it was changed or truncated`,
        );
      }
      return decodeUnpacked(key.open(sealed, what), what);
    },
    async saveUnpacked(type, json, signal) {
      const sealed = key.seal(encodeUnpacked(json, config.version));
      // A document nobody could open later must not be published.
      if (decodeUnpacked(key.open(sealed, type), type) !== json) {
        throw new CorruptionError(`Sealing a file of type ${type} damaged it`, {
          hint: 'Check the memory of this machine.',
        });
      }
      const name = sha256Hex(sealed);
      await storage.save({ type, name }, [sealed], signal);
      return name;
    },
  };
}

/** SHA-256 as 64 hex digits. */
export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
