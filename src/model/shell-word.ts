/** A word of a POSIX shell that means `value`. */
export const shellWord = (value: string): string =>
  /^[\w@%+=:,./-]+$/.test(value) ? value : shellQuoted(value);

/** {@link shellWord}, in quotes whatever `value` is. */
export const shellQuoted = (value: string): string => `'${withinShellQuotes(value)}'`;

/** `value` as it stands between the single quotes of a POSIX shell. */
export const withinShellQuotes = (value: string): string => value.replaceAll("'", `'\\''`);
