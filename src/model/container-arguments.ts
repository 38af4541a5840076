/** A container's entrypoint and command in single words: a command may be one string for a shell. */
export function argumentWords({ argv }: { readonly argv: readonly string[] }): readonly string[] {
  return argv.flatMap((argument) => argument.split(/\s+/)).filter((word) => word !== '');
}

/** The value of `--name value` or `--name=value` among a container's arguments. */
export function argumentOf(
  container: { readonly argv: readonly string[] },
  name: string,
): string | undefined {
  // A value may hold spaces where it is an argument of its own.
  const isApart = container.argv.includes(name) || container.argv.some((word) => word.startsWith(`${name}=`));
  const words = isApart ? container.argv : argumentWords(container);
  const at = words.findIndex((word) => word === name || word.startsWith(`${name}=`));
  if (at < 0) return undefined;
  const word = words[at] ?? '';
  return word === name ? words[at + 1] : word.slice(name.length + 1);
}
