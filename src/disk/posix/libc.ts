import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import type koffiModule from 'koffi';
import { TarsError } from '../../model/errors.ts';

/** A path for the system: a string of Unicode, or bytes. */
export type SystemPath = string | Buffer;

/**
 * Functions of the C library that Node does not offer: only those that glibc and musl export under one name with one
 * signature on 64-bit machines. None takes a structure, whose layout differs.
 */
const signatures = {
  utimensat: 'int utimensat(int, const uint8_t *, const int64_t *, int)',
  llistxattr: 'int64_t llistxattr(const uint8_t *, uint8_t *, uint64_t)',
  lgetxattr: 'int64_t lgetxattr(const uint8_t *, const uint8_t *, uint8_t *, uint64_t)',
  lsetxattr: 'int lsetxattr(const uint8_t *, const uint8_t *, const uint8_t *, uint64_t, int)',
  lremovexattr: 'int lremovexattr(const uint8_t *, const uint8_t *)',
  lseek: 'int64_t lseek(int, int64_t, int)',
  // mknod itself is no function of its own in older versions of glibc.
  syscall: 'int64_t syscall(int64_t, int64_t, const uint8_t *, int64_t, int64_t)',
  syncfs: 'int syncfs(int)',
} as const;
type FunctionName = keyof typeof signatures;
type Argument = number | bigint | Uint8Array | BigInt64Array;

interface NativeFunction {
  (...args: readonly Argument[]): number;
  async(...args: readonly (Argument | ((error: unknown, result: number) => void))[]): void;
}

interface Libc {
  readonly functions: Readonly<Record<FunctionName, NativeFunction>>;
  errno(): number;
}

let loaded: Libc | undefined;

/** Loaded at the first call: most commands need none of it. */
function load(): Libc {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
    const library = koffi.load(null);
    const functions = Object.fromEntries(
      Object.entries(signatures).map(([name, signature]) => [name, library.func(signature) as unknown]),
    ) as Record<FunctionName, NativeFunction>;
    return { functions, errno: () => koffi.errno() };
  } catch (cause) {
    throw new TarsError(
      'unsupported-version',
      `tars cannot call the C library of this machine (${process.platform} ${process.arch}), which it needs to read and write files`,
      { hint: 'Run tars on Linux (x64 or arm64), installed with its optional packages.', cause },
    );
  }
}

/** Calls the function. @throws Error of the system as Node has it, with `code`, `syscall` and `path` */
export function call(
  name: FunctionName,
  about: SystemPath | undefined,
  ...args: readonly Argument[]
): number {
  loaded ??= load();
  const result = loaded.functions[name](...args);
  if (result >= 0) return result;
  throw systemError(loaded.errno(), name, about);
}

/** {@link call} for what may take long: on another thread. The reason of a failure is not known. */
export function callAside(name: FunctionName, ...args: readonly Argument[]): Promise<void> {
  loaded ??= load();
  const native = loaded.functions[name];
  return new Promise((resolve, reject) => {
    native.async(...args, (error, result) => {
      if (error instanceof Error) reject(error);
      else if (result < 0) reject(new Error(`${name} failed`));
      else resolve();
    });
  });
}

function systemError(errno: number, syscall: string, about: SystemPath | undefined): NodeJS.ErrnoException {
  const code = errno === 0 ? 'UNKNOWN' : getSystemErrorName(-errno);
  const path = about?.toString();
  const message = `${code}: ${syscall} failed${path === undefined ? '' : ` '${path}'`}`;
  return Object.assign(new Error(message), {
    ...{ code, errno: -errno, syscall },
    ...(path === undefined ? {} : { path }),
  });
}

/** The path, or another name, as the C library takes it. */
export function terminated(path: SystemPath): Buffer {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path;
  const result = Buffer.alloc(bytes.length + 1);
  bytes.copy(result);
  return result;
}
