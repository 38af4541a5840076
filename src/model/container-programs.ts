/** A program that a container's command line names. */
export interface ContainerProgram {
  /** Without its directory. */
  readonly name: string;
  readonly args: readonly string[];
}

const shell = /^(ba|da|a|z|k)?sh$/;
/** Programs that start the one after them, with the number of arguments that are theirs. */
const starters: Readonly<Record<string, number>> = {
  ...{ tini: 0, 'dumb-init': 0, catatonit: 0, env: 0, exec: 0, nice: 0, nohup: 0, time: 0, setpriv: 0 },
  ...{ gosu: 1, 'su-exec': 1, timeout: 1 },
};
/** Words of the shell before a command. */
const keyword = /^(do|then|else|elif|if|while|until|time|!|exec)$/;
/** Words of the shell that no command follows. */
const structure = /^(for|case|in|fi|done|esac|break|continue)$/;

/**
 * The programs that a container's entrypoint and command start: one, or all that the text for a shell names. A script
 * that nothing follows counts as a program; one with words behind it, such as `docker-entrypoint.sh redis-cli`, is taken
 * for an entrypoint, which starts what follows.
 */
export function programsOf({ argv }: { readonly argv: readonly string[] }): readonly ContainerProgram[] {
  return programsIn(argv.flatMap((argument, i) => (isText(argv[i - 1]) ? [argument] : wordsOf(argument))));
}

/** Whether the argument after this one is a text for a shell. */
const isText = (flag: string | undefined): boolean => flag !== undefined && /^-[a-z]*c$/.test(flag);

/** One argument may be a whole command line. */
function wordsOf(argument: string): readonly string[] {
  if (!/\s/.test(argument)) return [argument];
  const words = argument.match(/'[^']*'|"(?:\\.|[^"\\])*"|\S+/g) ?? [];
  return words.map((word) => word.replace(/^(['"])(.*)\1$/s, '$2'));
}

function programsIn(words: readonly string[]): readonly ContainerProgram[] {
  const [first, ...rest] = words;
  if (first === undefined) return [];
  const name = baseName(first);
  if (isAssignment(first) || first.startsWith('-')) return programsIn(rest);
  if (shell.test(name)) {
    const at = rest.findIndex(isText);
    const text = rest[at + 1];
    return at >= 0 && text !== undefined ? programsOfScript(text) : programsIn(rest);
  }
  const own = starters[name];
  if (own !== undefined) return programsIn(rest.filter((word) => !word.startsWith('-')).slice(own));
  // Options are for what the entrypoint starts by itself.
  const isEntrypoint = /\.sh$|entrypoint/.test(name) && rest[0] !== undefined && !rest[0].startsWith('-');
  return isEntrypoint ? programsIn(rest) : [{ name, args: rest }];
}

/** The first words of all simple commands. */
function programsOfScript(text: string): readonly ContainerProgram[] {
  const plain = text
    .replaceAll(/\\\n/g, ' ')
    .replaceAll(/'[^']*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}/gs, '_')
    .replaceAll(/(^|\s)#.*$/gm, ' ')
    .replaceAll(/\d*[<>]+&?\s*[^\s;|&]*/g, ' ');
  return plain.split(/[;&|\n(){}`]+/).flatMap((command) => {
    const words = command.split(/\s+/).filter((word) => word !== '');
    while (keyword.test(words[0] ?? '') || isAssignment(words[0] ?? '')) words.shift();
    return structure.test(words[0] ?? '') ? [] : programsIn(words.filter((word) => word !== '$'));
  });
}

const isAssignment = (word: string): boolean => /^\w+=/.test(word);

const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
