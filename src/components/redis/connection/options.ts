import type { RedisAddress } from './connection.ts';

/** One configured Redis or Valkey server. */
export interface RedisOptions extends RedisAddress {
  /** Unique in the stack; the folder of its artifacts. */
  readonly name: string;
  /** The runtime's service it runs in; restoring needs it stopped. */
  readonly service: string | undefined;
  /** The server's `dir` as a local path. Needed to restore, not to capture. */
  readonly dataDir: string | undefined;
  /** Where the RDB is spooled. */
  readonly scratchDir: string;
}
