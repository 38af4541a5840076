import { join } from 'node:path';
import type { StorageFile, StorageFileType } from '../../ports/storage.ts';

/** Every kind of repository file that lives in a directory of its own. */
export const directoryTypes = ['data', 'index', 'keys', 'locks', 'snapshots'] as const satisfies Exclude<
  StorageFileType,
  'config'
>[];

const fileName = /^[0-9a-f]{64}$/;

/** True for the name of a repository file: the SHA-256 of its content in lower-case hex. */
export function isFileName(name: string): boolean {
  return fileName.test(name);
}

const temporaryName = /^[0-9a-f]{64}-tmp-/;

/** True for the name a file has while it is written, by tars or by restic. */
export function isTemporaryName(name: string): boolean {
  return temporaryName.test(name);
}

/** The 256 folders packs are spread over by the first byte of their names. */
export const packFolders: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
);

/**
 * restic's default layout (`doc/design.rst`, "Repository Layout"): `config`, `keys/<id>`, `index/<id>`,
 * `snapshots/<id>`, `locks/<id>` and `data/<first two digits>/<id>`.
 */
export function directoryOf(root: string, { type, name }: StorageFile): string {
  if (type === 'config') return root;
  return type === 'data' ? join(root, 'data', name.slice(0, 2)) : join(root, type);
}

/** The path of a repository file. */
export function pathOf(root: string, file: StorageFile): string {
  return join(directoryOf(root, file), file.type === 'config' ? 'config' : file.name);
}
