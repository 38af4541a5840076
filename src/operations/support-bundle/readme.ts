import type { Omission } from './source.ts';

/** What is in a bundle, and what is not. */
export interface BundleManifest {
  readonly version: 1;
  readonly tool: string;
  readonly createdAt: string;
  readonly files: readonly { readonly path: string; readonly from: string; readonly sizeBytes: number }[];
  readonly omitted: readonly Omission[];
}

/** What a person reads first. */
export function readmeText({ tool, createdAt, files, omitted }: BundleManifest): string {
  return [
    `Support bundle of ${tool}, made at ${createdAt}`,
    '',
    'It describes a stack and its backups for the people who help you. You can post it publicly:',
    'secrets are replaced by [redacted], even if logs quote them, and it holds no data of the stack.',
    'It holds names of hosts, users, paths, services, containers, databases and domains, and also',
    'times, network addresses and, if a log has them, mail addresses. Other programs wrote the',
    'logs: look through them before you post the bundle.',
    '',
    'Files:',
    ...files.map(({ path, from, sizeBytes }) => `  ${path} (${sizeBytes} bytes): ${from}`),
    '',
    omitted.length === 0 ? 'Nothing was left out.' : 'Left out:',
    ...omitted.map(({ what, why }) => `  ${what}: ${why.replaceAll('\n', ' ')}`),
    '',
  ].join('\n');
}
