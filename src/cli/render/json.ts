import type { Audience } from './audience.ts';

/** What a program reads about an error. */
interface Failure {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly context?: Readonly<Record<string, string | number | boolean>>;
}

/** An error as one JSON line. */
export function failureLine({ code, message, hint, context = {} }: Failure): string {
  return `${JSON.stringify({ type: 'error', code, message, hint, context })}\n`;
}

/** One JSON document with the result on stdout; one JSON line per event and error on stderr. */
export function jsonAudience({
  stdout,
  stderr,
}: {
  stdout: NodeJS.WritableStream;
  stderr: NodeJS.WritableStream;
}): Audience {
  return {
    event: (event) => void stderr.write(`${JSON.stringify(event)}\n`),
    result: (value) => void stdout.write(`${JSON.stringify(value, null, 2)}\n`),
    failure: (error) => void stderr.write(failureLine(error)),
    confirm: () => Promise.resolve(undefined),
    [Symbol.dispose]: () => undefined,
  };
}
