import { basename } from 'node:path';
import { TarsError } from '../../../model/errors.ts';
import type { AskProgram } from '../../../ports/support.ts';
import { logBytesMax, logLinesMax } from '../bounds.ts';
import type { SupportSource } from '../source.ts';
import { readEnd } from './read-part.ts';

/** The end of a log file. */
export const logFileSource = (path: string, folder: string): SupportSource => ({
  name: `log ${path}`,
  collect: async ({ signal }) => ({
    files: [
      {
        ...{ path: `${folder}/${basename(path)}.log`, from: path, form: 'log' },
        body: await readEnd(path, logBytesMax, signal),
      },
    ],
  }),
});

/** What the journal of systemd has of some units, those of the system or of this user. */
export const journalSource = (
  units: readonly string[],
  path: string,
  ask: AskProgram,
  { user = false } = {},
): SupportSource => ({
  name: `${user ? 'journal of this user' : 'journal'} of ${units.join(', ')}`,
  async collect({ signal }) {
    const argv = [
      ...['journalctl', ...(user ? ['--user'] : []), ...units.flatMap((unit) => ['-u', unit])],
      ...['-n', String(logLinesMax), '--no-pager', '-o', 'short-iso', '-q'],
    ];
    const answer = await ask(argv, logBytesMax, signal);
    if ('failure' in answer) throw new TarsError('subprocess', `journalctl: ${answer.failure}`);
    if (answer.bytes.byteLength === 0) throw new TarsError('subprocess', 'The journal has no lines of them');
    return { files: [{ path, from: argv.join(' '), body: answer.bytes, form: 'log' }] };
  },
});
