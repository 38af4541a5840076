// Writes the manual page to the standard output; `npm run build` keeps it as dist/tars.1.
import { readFile } from 'node:fs/promises';
import { commandTree } from '../src/cli/render/command-tree.ts';
import { createProgram } from '../src/cli/program.ts';
import { manPage } from '../src/cli/render/man-page.ts';
import { toolVersion } from '../src/model/version.ts';

const changelog = await readFile(new URL('../CHANGELOG.md', import.meta.url), 'utf8');
const released = /^## \[\d[^\]]*\] - (\d{4}-\d{2}-\d{2})$/m.exec(changelog)?.[1];
const program = createProgram({
  env: {},
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  signal: new AbortController().signal,
  json: false,
  setExitCode: () => undefined,
});
process.stdout.write(
  manPage(commandTree(program), {
    version: toolVersion,
    date: released ?? new Date().toISOString().slice(0, 10),
    exitCodes: {
      '0': 'Success',
      '1': 'An error, which is printed; nothing was left half published or half deleted',
      '2': 'Partial: a component could not be captured or restored',
      '10': 'There is no repository',
      '11': 'The repository or the stack is in use by another run',
      '12': 'The password opens no key of the repository',
      '130': 'Interrupted',
    },
    environment: {
      TARS_CONFIG: 'The configuration file, as with --config',
      TARS_PASSWORD: 'The password of the repository',
      TARS_PASSWORD_FILE: 'A file that holds the password',
      TARS_PASSWORD_COMMAND: 'A shell command that prints the password',
      DOCKER_HOST: 'The address of the Docker Engine, as for docker',
      NO_COLOR: 'Turns colours off, even on a terminal',
    },
    files: {
      './tars.yaml': 'The configuration; tars looks here first',
      '~/.config/tars/tars.yaml': 'The second place where tars looks for the configuration',
      '/etc/tars/tars.yaml': 'The third place',
      '~/.local/state/tars': 'The records of restores, and the log of runs',
    },
  }),
);
