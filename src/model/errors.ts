/** Stable machine-readable error codes. The CLI maps them to exit codes; `--json` prints them. */
export type ErrorCode =
  | 'configuration'
  | 'repository-not-found'
  | 'repository-exists'
  | 'repository-locked'
  | 'wrong-password'
  | 'snapshot-not-found'
  | 'artifact-not-found'
  | 'key-not-found'
  | 'key-refused'
  | 'corruption'
  | 'unsupported-version'
  | 'service-unavailable'
  | 'wrong-server'
  | 'access-denied'
  | 'no-space'
  | 'storage-not-found'
  | 'storage-exists'
  | 'storage-failed'
  | 'subprocess'
  | 'capture-failed'
  | 'forget-refused'
  | 'restore-refused'
  | 'restore-failed'
  | 'timeout'
  | 'interrupted'
  | 'internal';

/** What an error carries besides its code and message. */
interface TarsErrorOptions {
  /** What the operator should do next; an imperative sentence. */
  readonly hint?: string | undefined;
  /** Facts for logs and `--json`: paths, versions, counts. Never a secret. */
  readonly context?: Readonly<Record<string, string | number | boolean>>;
  readonly cause?: unknown;
}

/**
 * The base of every error this program raises on purpose: what happened and to what (`message`), what to do
 * next (`hint`). Messages start with a capital, give the offending value and end without a full stop.
 */
export class TarsError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly context: Readonly<Record<string, string | number | boolean>>;

  constructor(code: ErrorCode, message: string, options: TarsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.context = options.context ?? {};
  }
}

/** Bytes are not what they were when stored: MAC, hash, length or structure is wrong. */
export class CorruptionError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('corruption', message, options);
  }
}

/** A store or service does not answer. */
export class ServiceUnavailableError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('service-unavailable', message, options);
  }
}

/** Another server answers where a component's own was expected. Nothing was read from it or written to it. */
export class WrongServerError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('wrong-server', message, options);
  }
}

/** A restore was refused before anything was touched. */
export class RestoreRefusedError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('restore-refused', message, options);
  }
}

/** There is nothing to go back to: what was live before a restore does not exist any more. Nothing was changed. */
export class PreviousDataGoneError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('restore-failed', message, options);
  }
}

/** `tars.yaml`, an environment variable or a flag is wrong. */
export class ConfigurationError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('configuration', message, options);
  }
}

/** The repository is locked by somebody else. */
export class RepositoryLockedError extends TarsError {
  constructor(message: string, options?: TarsErrorOptions) {
    super('repository-locked', message, options);
  }
}

/** The operator or a signal stopped the operation. */
export class InterruptedError extends TarsError {
  constructor(message = 'Interrupted', options?: TarsErrorOptions) {
    super('interrupted', message, options);
  }
}

const systemErrorCodes: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'storage-not-found',
  EEXIST: 'storage-exists',
  EACCES: 'access-denied',
  EPERM: 'access-denied',
  EROFS: 'access-denied',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EIO: 'storage-failed',
  ESTALE: 'storage-failed',
  ENODEV: 'storage-failed',
  ENXIO: 'storage-failed',
  ENAMETOOLONG: 'configuration',
  ELOOP: 'configuration',
  ECONNREFUSED: 'service-unavailable',
};

/** What to do about a system call that failed, by its errno. */
const systemErrorHints: Readonly<Record<string, string>> = {
  EACCES: 'Run tars as a user who may read and write it, or correct its owner and mode.',
  EPERM: 'Run tars as a user who may read and write it, or correct its owner and mode.',
  EROFS:
    'The file system is mounted read-only. If tars runs in a container, remove :ro from this mount in the Compose file. Otherwise look at dmesg on the machine, because the kernel also does this after an error of the disk. Then mount it writable (mount -o remount,rw, with the mount point that findmnt -T shows for the path).',
  ENOSPC: 'Free space on that file system, or choose a directory on another one.',
  EDQUOT: 'Free space, raise the quota, or choose a directory on another file system.',
  EMFILE: 'This process has too many files open: raise its limit (ulimit -n, or LimitNOFILE= of the unit).',
  ENFILE:
    'The machine has too many files open: raise fs.file-max (sysctl), or stop the program that opens so many.',
  ENAMETOOLONG: 'A name has 255 bytes at most and a path 4095: choose a shorter path.',
  ELOOP: 'Symbolic links form a loop: check each part of the path with namei -l.',
  EIO: 'The disk or its connection has failed: look at dmesg, and at smartctl -a for the disk. First copy what can still be read to a safe place.',
  ESTALE:
    'The network file system has lost this file, because its server was restarted or exports it again: unmount it, then mount it again.',
  ENODEV: 'The device is gone: connect it and mount it again.',
  ENXIO: 'The device is gone: connect it and mount it again.',
  ENOTDIR: 'A part of the path is a file, not a directory: correct the path.',
};

/** True for errors of Node's system calls, which carry an errno name in `code`. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';
}

/** True when `error` is a system error with that errno name, such as `ENOENT`. */
export function hasErrno(error: unknown, errno: string): boolean {
  return isSystemError(error) && error.code === errno;
}

/** True when rights are missing, rather than something else being in the way. */
export const isDenied = (error: unknown): boolean => hasErrno(error, 'EACCES') || hasErrno(error, 'EPERM');

/** What whatever was thrown says, without the system call on a path that stood for an open directory. */
export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/(, \w+)? '\/proc\/self\/fd\/.*'$/s, '');

/** What to do about a failed system call; undefined for other errors, and for errors that need no explanation. */
export const systemErrorHint = (error: unknown): string | undefined =>
  isSystemError(error) ? systemErrorHints[error.code ?? ''] : undefined;

/**
 * Turns whatever was thrown into a {@link TarsError}, keeping TarsErrors as they are. `what` says what was being
 * attempted, to what, as a clause: "Cannot write pack data/ab/abcd".
 */
export function toTarsError(error: unknown, what: string): TarsError {
  if (error instanceof TarsError) return error;
  if (error instanceof Error && error.name === 'AbortError')
    return new InterruptedError('Interrupted', { cause: error });
  const code = isSystemError(error) ? (systemErrorCodes[error.code ?? ''] ?? 'internal') : 'internal';
  const hint = systemErrorHint(error);
  return new TarsError(
    code,
    `${what}: ${messageOf(error)}`,
    hint === undefined ? { cause: error } : { hint, cause: error },
  );
}

/**
 * {@link toTarsError}, with `what` also before a TarsError's message: for one that was thrown where its subject was not
 * known. An interruption stays as it is.
 */
export function withSubject(error: unknown, what: string): TarsError {
  if (!(error instanceof TarsError) || error.code === 'interrupted') return toTarsError(error, what);
  const { code, hint, context } = error;
  const message = `${what}: ${error.message}`;
  const options = { hint, context, cause: error };
  // Told apart by its class.
  return code === 'corruption'
    ? new CorruptionError(message, options)
    : new TarsError(code, message, options);
}
