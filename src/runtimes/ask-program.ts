import { startProgram } from '../disk/start-program.ts';
import { messageOf } from '../model/errors.ts';
import type { AskProgram } from '../ports/support.ts';
import { childEnvironment } from './child-environment.ts';

/** Runs a program that only answers a question, with empty input. Keeps only the end of its output. */
export const askProgram: AskProgram = async ([program = '', ...args], bytesMax, signal) => {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    const options = {
      ...({ stdin: 'ignore', reject: false, buffer: false, encoding: 'buffer', all: true } as const),
      ...{ extendEnv: false, env: childEnvironment({ LC_ALL: 'C.UTF-8', PAGER: 'cat' }) },
      // One that does not end when it is told to.
      forceKillAfterDelay: 1000,
    };
    const child = startProgram(program, args, options, signal);
    for await (const chunk of child.all as AsyncIterable<Uint8Array>) {
      chunks.push(Buffer.from(chunk));
      size += chunk.byteLength;
      while (size - (chunks[0]?.byteLength ?? 0) >= bytesMax) size -= chunks.shift()?.byteLength ?? 0;
    }
    const { exitCode, code, failed } = await child;
    const bytes = Buffer.concat(chunks).subarray(-bytesMax);
    if (!failed) return { bytes };
    const missing = code === 'ENOENT';
    return {
      missing,
      failure: missing ? 'It is not installed' : `It ended with exit code ${exitCode ?? 'unknown'}`,
    };
  } catch (error) {
    return { missing: false, failure: messageOf(error) };
  }
};
