/** What a server says of itself over the connection that is about to be used, as far as it lets us ask. */
export interface ServerClaim {
  /** The server's own end of the connection, an IP address. */
  readonly address?: string | undefined;
  /** Of a PostgreSQL: its data directory, in its own file system. */
  readonly dataDirectory?: string | undefined;
  /** Of a PostgreSQL: `system_identifier` of `pg_control_system()`. */
  readonly systemIdentifier?: string | undefined;
  /** Of a Redis: `run_id` of `INFO server`. */
  readonly runId?: string | undefined;
}

/**
 * Tells whether what answered is the server of the component's service, or another one that listens where that one
 * was expected. Asked on every new connection, before anything is read or written over it.
 */
export interface ServerProof {
  /**
   * @throws WrongServerError when another server answered
   * @throws ServiceUnavailableError when the service does not run, so that whatever answered is not it
   */
  require(claim: ServerClaim, signal: AbortSignal): Promise<void>;
}
