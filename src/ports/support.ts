import type { OperationContext } from './context.ts';

/** A text that may hold secrets. */
export interface UncleanText {
  /** Its path or name, which says how it is read. */
  readonly name: string;
  readonly text: string;
  /** What it is, where its name does not say it: the log of a server, or a JSON document of ours. */
  readonly form?: 'log' | 'report' | undefined;
}

/** Takes secrets out of texts. */
export interface TextCleaner {
  /** Bytes as text: UTF-8, or UTF-16 where they are. Never fails. */
  decode(bytes: Uint8Array): string;
  /**
   * Redacts all texts together: what one of them gives away goes from all, as do the `known` secrets.
   * @returns the texts in their order, and every secret that is replaced wherever it stands
   * @throws InterruptedError when the signal aborts
   */
  clean(
    texts: readonly UncleanText[],
    known: readonly string[],
    signal: AbortSignal,
  ): Promise<{ readonly texts: readonly string[]; readonly secrets: readonly string[] }>;
}

/** What a program printed, or why it could not be asked. */
export type Answer = { readonly bytes: Uint8Array } | { readonly failure: string; readonly missing: boolean };

/** Runs a program that only reads, without a shell and without anything to type; keeps the end of what it prints. */
export type AskProgram = (argv: readonly string[], bytesMax: number, signal: AbortSignal) => Promise<Answer>;

/** One container of the stack. */
export interface SupportedContainer {
  readonly name: string;
  readonly service: string;
  /** Chosen fields of what the Engine says of it: nothing of its environment, labels and command. */
  readonly state: object;
  /** `NAME=value`, from which secrets are learned. */
  readonly environment: readonly string[];
  /** The words of its command, for the same. */
  readonly command: readonly string[];
  /** The end of its log, at most the given number of lines. */
  log(linesMax: number, bytesMax: number, ctx: OperationContext): Promise<Uint8Array>;
}

/** The containers of a stack, as their Engine knows them. */
export interface ContainerInspector {
  /** Of the Engine. */
  version(signal: AbortSignal): Promise<object>;
  containers(signal: AbortSignal): Promise<readonly SupportedContainer[]>;
  /** Compose files that made them. */
  composeFiles(signal: AbortSignal): Promise<readonly string[]>;
}
