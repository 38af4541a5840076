import type { OperationContext } from './context.ts';

/** One of the keys that open a repository. */
export interface RepositoryKey {
  /** 64 hex digits. */
  readonly id: string;
  /** The one that opened the repository. */
  readonly isCurrent: boolean;
  readonly created: Date | undefined;
  /** Who made it, and where. */
  readonly username: string;
  readonly hostname: string;
}

/** The keys of an opened repository. Each has a password of its own and opens all of it. */
export interface KeyRing {
  /** The oldest first. Damaged key files are warned of and left out. */
  listKeys(ctx: OperationContext): Promise<readonly RepositoryKey[]>;
  /** Adds a key that was proved to open the repository. Returns its id. */
  addKey(password: string, ctx: OperationContext): Promise<string>;
  /**
   * Returns the id of the key that was removed.
   * @param reference an id or a unique prefix of one
   * @throws TarsError `key-not-found`; `key-refused` for the key in use, and so for the last one
   */
  removeKey(reference: string, ctx: OperationContext): Promise<string>;
  /** Puts a key with this password in the place of the one in use. Returns both ids. */
  changePassword(
    password: string,
    ctx: OperationContext,
  ): Promise<{ readonly added: string; readonly removed: string }>;
}
