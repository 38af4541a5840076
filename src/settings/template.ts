import type { KindProposal } from '../ports/kind.ts';
import { schemaLine } from './json-schema.ts';
import { careSections, type CareValues } from './template-sections.ts';

/** What {@link settingsTemplate} fills in. */
export interface TemplateValues {
  readonly stack: string;
  /** Left to the machine's own name where it is not given. */
  readonly host?: string | undefined;
  readonly repositoryPath: string;
  readonly passwordFile: string;
  /** Sections of components; those of stores that were not found are written as comments. */
  readonly proposals: readonly KindProposal[];
  readonly care: CareValues;
}

const quote = (text: string): string => JSON.stringify(text);

/** Snapshots are of a stack on a host; the machine's own name is the default. */
export const hostLines = (host: string | undefined): string =>
  host === undefined
    ? '# host: NAME                             # default: the name of this machine'
    : `host: ${quote(host)}`;

/** The commented `tars.yaml` that `tars init` writes. */
export function settingsTemplate({
  stack,
  host,
  repositoryPath,
  passwordFile,
  proposals,
  care,
}: TemplateValues): string {
  const sections = proposals.map(({ isFound, lines }) =>
    lines.map((line) => (isFound ? `  ${line}` : `  # ${line}`)).join('\n'),
  );
  return `${schemaLine}
# What tars backs up, where it stores it, and how services are stopped and started.
# \${NAME} is replaced from the environment; relative paths start at this file's directory.
version: 1
stack: ${quote(stack)}
${hostLines(host)}

repository:
  path: ${quote(repositoryPath)}
  # The recovery key. Keep a copy away from this machine: without it no one can read the snapshots.
  password_file: ${quote(passwordFile)}

# The directory for temporary dumps; default: the system's temporary directory.
# scratch_dir: /var/tmp

# How the true configuration is kept: repository (encrypted with everything else),
# sealed (additionally for the age recipients below) or redact-only (secrets are not kept at all).
secrets: repository
# age_recipients: [age1...]

components:
${sections.join('\n\n')}

  # config:                                # this file is captured with them
  #   files: [tars-home.env, docker-compose.yml]

# Services tars may stop and start for a restore, and pause for the cut, no longer than
# pause_max_ms: 5000
services:
  # postgres:
  #   systemd_unit: postgresql               # or start: [...], stop: [...], status: [...]
  # redis:
  #   systemd_unit: redis-server
  # chroma:
  #   systemd_unit: chroma                   # or command: [...] with pid_file: and log_file:
  # ollama:
  #   systemd_unit: ollama
  # backend:
  #   systemd_unit: tars-backend
  #   depends_on: [postgres, redis]
  #   writer: true                           # paused for some milliseconds while the cut is taken
  # worker:                                  # one that is no unit
  #   writer: true
  #   pid_file: /run/worker.pid              # or pause: [...] and resume: [...]

${careSections(care)
  .map((lines) => `${lines.join('\n')}\n`)
  .join('\n')}`;
}
