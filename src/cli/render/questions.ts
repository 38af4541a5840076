import { InterruptedError } from '../../model/errors.ts';

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

interface Streams {
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WriteStream;
}

/** Questions asked on a terminal; Ctrl-C while one stands is an InterruptedError. */
export function terminalQuestions(streams: Streams): Questions {
  return {
    async choose(message, options, signal) {
      const { select } = await prompts();
      const numbered = options.map(({ label }, value) => ({ value, label }));
      const position = await ask<number>(streams, signal, (common) =>
        select<number>({ ...common, message, options: numbered }),
      );
      const chosen = options[position];
      if (chosen === undefined) throw new RangeError('There is nothing to choose from');
      return chosen.value;
    },
    async text(message, { preset, check }, signal) {
      const { text } = await prompts();
      const validate = (answer = ''): string | undefined => check(answer === '' ? preset : answer);
      const shown = { placeholder: preset, defaultValue: preset };
      return ask<string>(streams, signal, (common) => text({ ...common, ...shown, message, validate }));
    },
    async confirm(message, signal) {
      const { confirm } = await prompts();
      return ask<boolean>(streams, signal, (common) => confirm({ ...common, message, initialValue: true }));
    },
  };
}

/**
 * The library takes Ctrl-C for itself and answers with a symbol; on Ctrl-D, and when the terminal is gone, it would
 * never answer.
 */
async function ask<T>(
  { stdin, stderr }: Streams,
  signal: AbortSignal,
  prompt: (common: {
    input: typeof stdin;
    output: typeof stderr;
    signal: AbortSignal;
  }) => Promise<T | symbol>,
): Promise<T> {
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  const onKey = (_text: unknown, key: { ctrl?: boolean; name?: string } = {}): void => {
    if (key.ctrl === true && key.name === 'd') leave();
  };
  stdin.on('keypress', onKey).once('end', leave);
  try {
    const answer = await prompt({
      input: stdin,
      output: stderr,
      signal: AbortSignal.any([signal, gone.signal]),
    });
    if (typeof answer === 'symbol') throw new InterruptedError('Interrupted; nothing was written');
    return answer;
  } finally {
    stdin.off('keypress', onKey).off('end', leave);
  }
}
