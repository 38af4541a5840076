import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { InterruptedError } from '../../model/errors.ts';

/** Where the operator sits. */
interface Terminal {
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WriteStream;
}

/**
 * Asks for a secret, which does not show while it is typed. Undefined without a terminal.
 * @throws InterruptedError on Ctrl-C and Ctrl-D
 */
export async function askSecret(
  question: string,
  { stdin, stderr }: Terminal,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!stdin.isTTY || !stderr.isTTY) return undefined;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: nowhere, terminal: true, historySize: 0 });
  // Only now: from here on the terminal shows nothing that is typed, however fast the answer comes.
  stderr.write(question);
  const closed = Promise.withResolvers<never>();
  for (const event of ['SIGINT', 'close'] as const) {
    lines.once(event, () => closed.reject(new InterruptedError('Interrupted; nothing was changed')));
  }
  try {
    return await Promise.race([lines.question('', { signal }), closed.promise]);
  } finally {
    lines.close();
    stderr.write('\n');
  }
}
