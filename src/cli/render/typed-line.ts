import { on } from 'node:events';

/** Where the operator sits. */
export interface Terminal {
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WriteStream;
  /** The terminal can move its cursor. */
  readonly capable: boolean;
}

const enter = new Set(['\r', '\n']);
/** Ctrl-C and Ctrl-D. */
const leaving = new Set(['\u0003', '\u0004']);
const backspace = new Set(['\b', '\u007f']);

/**
 * Asks for one line with plain characters alone, for a terminal that does not know control sequences.
 * @param isSecret what is typed does not show
 * @returns undefined on Ctrl-C, Ctrl-D, and when `signal` aborts or the terminal is gone
 */
export async function typedLine(
  { stdin, stderr }: Pick<Terminal, 'stdin' | 'stderr'>,
  question: string,
  isSecret: boolean,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (signal.aborted) return undefined;
  const line: string[] = [];
  const echo = (text: string): void => {
    if (!isSecret) stderr.write(text);
  };
  stderr.write(`${question} `);
  // The terminal would show a secret, and end the process on Ctrl-C.
  stdin.setRawMode(true).setEncoding('utf8');
  try {
    const keys = on(stdin, 'data', { signal, close: ['end'] }) as AsyncIterable<readonly [string]>;
    // A question before this one has paused it.
    stdin.resume();
    for await (const [text] of keys) {
      for (const key of text) {
        if (enter.has(key)) return line.join('');
        if (leaving.has(key)) return undefined;
        if (!backspace.has(key)) {
          line.push(key);
          echo(key);
        } else if (line.pop() !== undefined) echo('\b \b');
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') return undefined;
    throw error;
  } finally {
    stdin.setRawMode(false).pause();
    stderr.write('\n');
  }
}
