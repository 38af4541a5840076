import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import { askSecret, askYes, terminalQuestions } from './questions.ts';
import type { Terminal } from './typed-line.ts';

/** A terminal that knows no control sequences, as far as a question sees it. */
class DumbTerminal implements Terminal {
  readonly capable = false;
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WriteStream;
  readonly #keys = new PassThrough();
  shown = '';
  isRaw = false;

  constructor() {
    const setRawMode = (isRaw: boolean): PassThrough => {
      this.isRaw = isRaw;
      return this.#keys;
    };
    this.stdin = Object.assign(this.#keys, { isTTY: true, setRawMode }) as unknown as NodeJS.ReadStream;
    const screen = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.shown += chunk.toString();
        done();
      },
    });
    this.stderr = Object.assign(screen, { isTTY: true }) as unknown as NodeJS.WriteStream;
  }

  /** What `work` answers to keys that are typed one after the other. */
  async type<T>(keys: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const answer = work(new AbortController().signal);
    for (const key of keys) this.#keys.write(key);
    return answer.finally(() => assert.equal(this.isRaw, false, 'the terminal is as it was'));
  }
}

const interrupted = { code: 'interrupted', message: 'Interrupted; nothing was changed' };

test('a terminal without control sequences gets none, and its answers count', async () => {
  const asked = async (
    keys: string,
  ): Promise<{ readonly answer: boolean | undefined; readonly shown: string }> => {
    const terminal = new DumbTerminal();
    const answer = await terminal.type(keys, (signal) => askYes('Remove it?', terminal, signal));
    return { answer, shown: terminal.shown };
  };
  assert.deepEqual(await asked('yes\r'), { answer: true, shown: 'Remove it? [y/N] yes\n' });
  assert.deepEqual(await asked('\r'), { answer: false, shown: 'Remove it? [y/N] \n' });
  assert.equal((await asked('nö\u007f\u007f\u007fy\n')).answer, true);
  for (const key of ['\u0003', '\u0004']) await assert.rejects(asked(key), interrupted);
  assert.equal(terminalQuestions(new DumbTerminal()), undefined);
});

test('what is typed as a secret shows on no terminal', async () => {
  const terminal = new DumbTerminal();
  const secret = await terminal.type('häsh\b\r', (signal) => askSecret('New password', terminal, signal));
  assert.deepEqual([secret, terminal.shown], ['häs', 'New password \n']);
  const next = terminal.type('again\r', (signal) => askSecret('The same again', terminal, signal));
  assert.equal(await next, 'again', 'a second question can be asked');
});

test('a signal and a terminal that is gone end a question', async () => {
  const terminal = new DumbTerminal();
  const abort = new AbortController();
  const answer = askYes('Remove it?', terminal, abort.signal);
  abort.abort();
  await assert.rejects(answer, interrupted);
  await assert.rejects(askYes('Remove it?', terminal, abort.signal), interrupted);
  const gone = new DumbTerminal();
  const unanswered = askSecret('New password', gone, new AbortController().signal);
  (gone.stdin as unknown as PassThrough).end();
  await assert.rejects(unanswered, interrupted);
});
