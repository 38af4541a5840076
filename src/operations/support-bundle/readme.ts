import type { BundleManifest } from './index.ts';

/** What a person reads first. */
export function readmeText({ tool, createdAt, files, omitted }: BundleManifest): string {
  return [
    `Support bundle of ${tool}, made at ${createdAt}`,
    '',
    'It describes a stack and its backups for someone who is to help. It can be posted publicly:',
    'secrets are replaced by [redacted], also where logs quote them, and no data of the stack is',
    'in it. Names of hosts, users, paths, services, containers, databases and domains are in it,',
    'and so are times and addresses of the network. Look through it before you post it.',
    '',
    'In it:',
    ...files.map(({ path, from, sizeBytes }) => `  ${path} (${sizeBytes} bytes): ${from}`),
    '',
    omitted.length === 0 ? 'Nothing was left out.' : 'Left out:',
    ...omitted.map(({ what, why }) => `  ${what}: ${why.replaceAll('\n', ' ')}`),
    '',
  ].join('\n');
}
