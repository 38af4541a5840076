/** Variables by name, as a process, a shell or an environment file sets them. */
export type Environment = Readonly<Record<string, string | undefined>>;
