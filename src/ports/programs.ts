import type { Bytes } from './artifacts.ts';

/** One run of a client program of a store. */
export interface ProgramCall {
  /** A path, or a name that is searched where it runs. */
  readonly path: string;
  readonly args: readonly string[];
  /** Everything its environment holds beside what is there anyway. Never visible in a process list. */
  readonly environment: Readonly<Record<string, string>>;
  /** Sees everything the program writes to its stderr, as it comes. */
  readonly onStderr?: (bytes: Uint8Array) => void;
}

/** Where client programs of a store run: on this machine, or in the store's container. */
export interface ProgramRunner {
  /**
   * What the program writes, to its end, at the reader's pace. The iteration fails unless the program then exits
   * with 0: only end of stream and exit status together make the output whole. Left early, the program is ended.
   * @throws TarsError `subprocess` with the end of its stderr; InterruptedError
   */
  output(program: ProgramCall, signal: AbortSignal): Bytes;
  /**
   * Feeds `input` to the program's stdin and waits for its success. The input is read to its end, where it checks
   * itself, also when the program ends well without the rest.
   * @throws the error of `input` when that fails; TarsError `subprocess` when the program does
   */
  feed(program: ProgramCall, input: Bytes, signal: AbortSignal): Promise<void>;
}
