/**
 * What a reader refuses, so that damage and malice cannot fill its memory. The writer asks the same limits before it
 * publishes: nothing may be written that cannot be read.
 */

/** A manifest is held in memory as a whole. */
export const manifestMaxBytes = 64 << 20;

/**
 * Of an entry below the snapshot's root. Linux takes 4,096 bytes at a time, but a directory that is open leads on to
 * longer ones.
 */
export const pathMaxBytes = 16 << 10;
