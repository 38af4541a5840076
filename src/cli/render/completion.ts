import type { CommandNode, OptionNode } from './command-tree.ts';

/** The shells that there are completion scripts for. */
export const shells = ['bash', 'zsh', 'fish'] as const;
/** A shell that a completion script can be had for. */
export type Shell = (typeof shells)[number];

/** A script that makes `shell` complete the verbs, options and files of the command line. */
export function completionScript(shell: Shell, program: CommandNode): string {
  switch (shell) {
    case 'bash':
      return bash(program);
    case 'zsh':
      return `#compdef ${program.name}\nautoload -U +X bashcompinit && bashcompinit\n${bash(program)}`;
    case 'fish':
      return fish(program);
  }
}

/** A verb with the words that lead to it: `key add`. */
interface Path {
  readonly words: string;
  readonly node: CommandNode;
}

function pathsOf(node: CommandNode, before: readonly string[] = []): Path[] {
  return node.commands.flatMap((child) => {
    const words = [...before, child.name];
    return [{ words: words.join(' '), node: child }, ...pathsOf(child, words)];
  });
}

const names = (options: readonly OptionNode[]): string[] =>
  options.flatMap(({ short, long }) => (short === undefined ? [long] : [short, long]));

/** Bash and zsh: the words so far name the verb, the word before may ask for a value. */
function bash(program: CommandNode): string {
  const { name } = program;
  const paths = pathsOf(program);
  const nested = paths.filter(({ node }) => node.commands.length > 0).map(({ words }) => words);
  const all = [program, ...paths.map(({ node }) => node)].flatMap(({ options }) => options);
  const valued = new Map(all.filter(({ takes }) => takes !== 'nothing').map((o) => [o.long, o]));
  const shorts = all.flatMap((o) => (o.short !== undefined && o.takes !== 'nothing' ? [o.short] : []));
  const offer = ({ commands, words: fixed, options }: CommandNode): string => {
    const own = [...commands.map((child) => child.name), ...fixed].join(' ');
    const all = [...new Set([...names(options), ...names(program.options)])].join(' ');
    // Options are many, and in the way of the words unless they are what is typed or all there is.
    return own === '' ? `words='${all}'` : `words='${own}'; [[ $cur == -* ]] && words='${all}'`;
  };
  return `_${name}() {
  local cur prev verb words i
  cur=\${COMP_WORDS[COMP_CWORD]}
  prev=\${COMP_WORDS[COMP_CWORD - 1]}
  verb=
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${[...valued.keys(), ...new Set(shorts)].join('|')}) ((i++)) ;;
      -*) ;;
      *)
        case $verb in
          '') verb=\${COMP_WORDS[i]} ;;
          ${nested.map((word) => `'${word}'`).join('|') || "'-'"}) verb="$verb \${COMP_WORDS[i]}" ;;
        esac
        ;;
    esac
  done
  case $prev in
${[...valued.values()].map((option) => `    ${bashPattern(option)}) ${bashValues(option)}; return ;;`).join('\n')}
  esac
  words=
  case $verb in
    '') ${offer(program)} ;;
${paths.map((path) => `    '${path.words}') ${offer(path.node)} ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _${name} ${name}
`;
}

const bashPattern = ({ short, long }: OptionNode): string =>
  short === undefined ? long : `${short}|${long}`;

/** Only here: a verb is no directory, though one of its name be here. Zsh does not know it, and needs it not. */
const asFiles = 'compopt -o filenames 2> /dev/null';

function bashValues({ takes, choices }: OptionNode): string {
  if (choices.length > 0) return `COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$cur"))`;
  if (takes === 'file') return `${asFiles}; COMPREPLY=($(compgen -f -- "$cur"))`;
  return takes === 'directory' ? `${asFiles}; COMPREPLY=($(compgen -d -- "$cur"))` : 'COMPREPLY=()';
}

function fish(program: CommandNode): string {
  const { name } = program;
  const quote = (text: string): string => `'${text.replaceAll(/['\\]/g, '\\$&')}'`;
  const line = (condition: string | undefined, rest: string): string =>
    `complete -c ${name}${condition === undefined ? '' : ` -n ${quote(condition)}`} ${rest}`;
  const option = (condition: string | undefined, node: OptionNode): string => {
    const short = node.short === undefined ? '' : `-s ${node.short.slice(1)} `;
    return line(
      condition,
      `${short}-l ${node.long.slice(2)} ${fishValues(node)}-d ${quote(node.description)}`,
    );
  };
  const verbs = program.commands.map((verb) => verb.name);
  const inside = (words: string): string =>
    words
      .split(' ')
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join('; and ');
  return [
    line(undefined, '-f'),
    ...program.options.map((node) => option(undefined, node)),
    ...program.commands.map((verb) =>
      line(
        `not __fish_seen_subcommand_from ${verbs.join(' ')}`,
        `-a ${verb.name} -d ${quote(verb.description)}`,
      ),
    ),
    ...pathsOf(program).flatMap(({ words, node }) => [
      ...node.commands.map((child) =>
        line(
          `${inside(words)}; and not __fish_seen_subcommand_from ${node.commands.map((c) => c.name).join(' ')}`,
          `-a ${child.name} -d ${quote(child.description)}`,
        ),
      ),
      ...node.words.map((word) => line(inside(words), `-a ${word}`)),
      ...node.options.map((each) => option(inside(words), each)),
    ]),
    '',
  ].join('\n');
}

function fishValues({ takes, choices }: OptionNode): string {
  if (choices.length > 0) return `-x -a '${choices.join(' ')}' `;
  if (takes === 'nothing') return '';
  return takes === 'word' ? '-x ' : '-r -F ';
}
