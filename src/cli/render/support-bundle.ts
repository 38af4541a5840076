import { counted } from '../../model/plural.ts';
import type { BundleManifest } from '../../operations/support-bundle/readme.ts';
import { formatTable } from './columns.ts';
import { formatBytes } from './units.ts';

/** What is in a bundle and what is not; `written` is its path and size, undefined for a dry run. */
export function renderSupportBundle(
  { files, omitted }: BundleManifest,
  written: { readonly path: string; readonly sizeBytes: number } | undefined,
  columns = Infinity,
): string {
  const inIt = files.map(({ path, from, sizeBytes }) => [path, formatBytes(sizeBytes), from]);
  const leftOut = omitted.map(({ what, why }) => [what, why.replaceAll('\n', ' ')]);
  return [
    ...(inIt.length === 0 ? [] : [formatTable(['IN THE BUNDLE', '>SIZE', 'FROM'], inIt, columns), '']),
    ...(leftOut.length === 0 ? [] : [formatTable(['LEFT OUT', 'WHY'], leftOut, columns), '']),
    written === undefined
      ? 'Nothing was written: this was a dry run'
      : `${written.path} (${formatBytes(written.sizeBytes)}) holds ${counted(files.length, 'file')}, with secrets redacted.`,
    ...(written === undefined
      ? []
      : ['It holds names of hosts, paths and services: look through it before you post it.']),
  ].join('\n');
}
