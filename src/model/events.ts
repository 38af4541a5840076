import type { Finding } from './finding.ts';

/** What an operation tells its audience; the terminal and `--json` render the same events. */
export type OperationEvent =
  | {
      readonly type: 'message';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
    }
  | { readonly type: 'task-started'; readonly task: string; readonly totalBytes?: number | undefined }
  | {
      readonly type: 'task-progress';
      readonly task: string;
      readonly doneBytes: number;
      readonly totalBytes?: number | undefined;
    }
  | { readonly type: 'task-finished'; readonly task: string; readonly outcome: 'ok' | 'failed' }
  | { readonly type: 'finding'; readonly finding: Finding };
