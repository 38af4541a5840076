import { Writable } from 'node:stream';
import type { Environment } from '../../model/environment.ts';
import { InterruptedError } from '../../model/errors.ts';
import { typedLine, type Terminal } from './typed-line.ts';
import { visible } from './visible.ts';

/** One of several answers. */
export interface Option<T> {
  readonly value: T;
  readonly label: string;
}

/** Questions on the terminal, each with an answer that Enter alone gives. */
export interface Questions {
  /** One of `options`, at first the first. @throws InterruptedError on Ctrl-C */
  choose<T>(question: string, options: readonly Option<T>[], signal: AbortSignal): Promise<T>;
  /**
   * A line of text.
   * @param check says what is wrong with an answer
   * @throws InterruptedError on Ctrl-C
   */
  text(
    question: string,
    options: { readonly preset: string; readonly check: (answer: string) => string | undefined },
    signal: AbortSignal,
  ): Promise<string>;
  /** Yes or no, at first yes. @throws InterruptedError on Ctrl-C */
  confirm(question: string, signal: AbortSignal): Promise<boolean>;
}

/** Loaded when the first question is asked: most runs ask none. */
const prompts = () => import('@clack/prompts');

/** Whether the terminal of that environment knows control sequences. */
export const isCapable = (env: Environment): boolean => env['TERM'] !== 'dumb';

const isTerminal = ({ stdin, stderr }: Pick<Terminal, 'stdin' | 'stderr'>): boolean =>
  stdin.isTTY && stderr.isTTY;

/**
 * Questions asked on a terminal; Ctrl-C while one stands is an InterruptedError. Undefined where there is none, or none
 * that can show them.
 */
export function terminalQuestions(terminal: Terminal): Questions | undefined {
  if (!isTerminal(terminal) || !terminal.capable) return undefined;
  const askAbout = <T>(
    message: string,
    signal: AbortSignal,
    prompt: (common: CommonOptions) => Promise<T | symbol>,
  ): Promise<T> => ask(terminal, { message, untouched: 'nothing was written' }, signal, prompt);
  return {
    async choose(message, options, signal) {
      const { select } = await prompts();
      const numbered = options.map(({ label }, value) => ({ value, label: visible(label) }));
      const position = await askAbout<number>(message, signal, (common) =>
        select<number>({ ...common, options: numbered }),
      );
      const chosen = options[position];
      if (chosen === undefined) throw new RangeError('There is nothing to choose');
      return chosen.value;
    },
    async text(message, { preset, check }, signal) {
      const { text } = await prompts();
      const validate = (answer = ''): string | undefined => check(answer === '' ? preset : answer);
      const shown = { placeholder: preset, defaultValue: preset };
      return askAbout<string>(message, signal, (common) => text({ ...common, ...shown, validate }));
    },
    async confirm(message, signal) {
      const { confirm } = await prompts();
      return askAbout<boolean>(message, signal, (common) => confirm({ ...common, initialValue: true }));
    },
  };
}

/**
 * Asks before something is removed or replaced. Only `y` or `yes`, typed out, is a yes: one key pressed by mistake is
 * none. Undefined without a terminal.
 * @throws InterruptedError on Ctrl-C and Ctrl-D
 */
export async function askYes(
  question: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  if (!isTerminal(terminal)) return undefined;
  const about = { message: `${question} [y/N]`, untouched: 'nothing was changed' };
  const answer = terminal.capable
    ? await ask<string | undefined>(terminal, about, signal, (await prompts()).text)
    : await askPlainly(terminal, about, false, signal);
  return /^y(es)?$/i.test(answer?.trim() ?? '');
}

/**
 * Asks for a secret, which does not show while it is typed. Undefined without a terminal.
 * @throws InterruptedError on Ctrl-C and Ctrl-D
 */
export async function askSecret(
  message: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!isTerminal(terminal)) return undefined;
  const about = { message, untouched: 'nothing was changed' };
  if (!terminal.capable) return askPlainly(terminal, about, true, signal);
  const { password } = await prompts();
  return ask<string>(terminal, about, signal, (common) => password({ ...common, mask: '' }));
}

/** A question, and what its interruption leaves. */
interface About {
  readonly message: string;
  readonly untouched: string;
}

async function askPlainly(
  terminal: Terminal,
  { message, untouched }: About,
  isSecret: boolean,
  signal: AbortSignal,
): Promise<string> {
  const answer = await typedLine(terminal, visible(message), isSecret, signal);
  if (answer === undefined) throw new InterruptedError(`Interrupted; ${untouched}`);
  return answer;
}

interface CommonOptions {
  readonly message: string;
  readonly input: NodeJS.ReadStream;
  readonly output: Writable;
  readonly signal: AbortSignal;
}

/** A console that does not tell its size, as a serial one, would get one character a line. */
function sized(stderr: NodeJS.WriteStream): Writable {
  if (stderr.columns > 0) return stderr;
  const output = new Writable({
    write: (chunk: string | Uint8Array, _encoding, done) => void stderr.write(chunk, done),
  });
  return Object.assign(output, { columns: 80, rows: 24, isTTY: true });
}

/**
 * The library takes Ctrl-C for itself and answers with a symbol; on Ctrl-D, and when the terminal is gone, it would
 * never answer.
 */
async function ask<T>(
  { stdin, stderr }: Terminal,
  { message, untouched }: About,
  signal: AbortSignal,
  prompt: (common: CommonOptions) => Promise<T | symbol>,
): Promise<T> {
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  const onKey = (_text: unknown, key: { ctrl?: boolean; name?: string } = {}): void => {
    if (key.ctrl === true && key.name === 'd') leave();
  };
  stdin.on('keypress', onKey).once('end', leave);
  try {
    const answer = await prompt({
      message: visible(message),
      input: stdin,
      output: sized(stderr),
      signal: AbortSignal.any([signal, gone.signal]),
    });
    if (typeof answer === 'symbol') throw new InterruptedError(`Interrupted; ${untouched}`);
    return answer;
  } finally {
    stdin.off('keypress', onKey).off('end', leave);
  }
}
