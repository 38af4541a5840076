import type { Audience } from './audience.ts';

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
    failure({ code, message, hint, context }) {
      stderr.write(`${JSON.stringify({ type: 'error', code, message, hint, context })}\n`);
    },
    confirm: () => Promise.resolve(undefined),
    [Symbol.dispose]: () => undefined,
  };
}
