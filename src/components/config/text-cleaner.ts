import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../model/abort.ts';
import type { TextCleaner } from '../../ports/support.ts';
import { decodeText, utf16Order } from './files.ts';
import { redactInSteps } from './redact/index.ts';

/** The rules that redact configuration, for texts of every kind. */
export const createTextCleaner = (): TextCleaner => ({
  // What is neither UTF-16 nor UTF-8 throughout is UTF-8 with some bytes that are none: its other words stay known.
  decode: (bytes) =>
    utf16Order(bytes) === undefined ? Buffer.from(bytes).toString('utf8') : decodeText(bytes).text,
  async clean(texts, known, signal) {
    const steps = redactInSteps(texts, known);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      // A text takes up to some seconds of this thread.
      await setImmediate();
      throwIfAborted(signal);
    }
  },
});
