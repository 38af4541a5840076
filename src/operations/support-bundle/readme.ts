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
    'It describes a stack and its backups for someone who is to help. It can be posted publicly:',
    'secrets are replaced by [redacted], also where logs quote them, and no data of the stack is',
    'in it. Names of hosts, users, paths, services, containers, databases and domains are in it,',
    'and so are times, addresses of the network and, where a log has them, of mail. Logs are',
    'written by other programs: look through them before you post the bundle.',
    '',
    'In it:',
    ...files.map(({ path, from, sizeBytes }) => `  ${path} (${sizeBytes} bytes): ${from}`),
    '',
    omitted.length === 0 ? 'Nothing was left out.' : 'Left out:',
    ...omitted.map(({ what, why }) => `  ${what}: ${why.replaceAll('\n', ' ')}`),
    '',
  ].join('\n');
}
