import type { Argument, Command, Option } from 'commander';

/** What an option or an argument takes, as far as a shell can complete it. */
export type Takes = 'nothing' | 'file' | 'directory' | 'word';

/** One option of a verb. */
export interface OptionNode {
  /** As declared, such as `-y, --yes` or `--output-dir <dir>`. */
  readonly flags: string;
  /** `-y`, where there is one. */
  readonly short: string | undefined;
  /** `--yes` */
  readonly long: string;
  readonly description: string;
  readonly takes: Takes;
  readonly choices: readonly string[];
}

/** The program, a verb or a verb's subcommand. */
export interface CommandNode {
  readonly name: string;
  readonly description: string;
  /** Arguments as usage shows them, such as `[snapshot]`. */
  readonly usage: string;
  /** What the arguments may be, where that is a fixed choice. */
  readonly words: readonly string[];
  readonly options: readonly OptionNode[];
  readonly examples: readonly string[];
  readonly commands: readonly CommandNode[];
}

const examplesOf = new WeakMap<Command, readonly string[]>();

/** Shows `examples` at the end of the command's help, after `notes`, and in the manual. */
export function withExamples(command: Command, examples: readonly string[], notes?: string): Command {
  examplesOf.set(command, examples);
  const lines = ['Examples:', ...examples.map((example) => `  ${example}`)].join('\n');
  return command.addHelpText('after', `\n${notes === undefined ? '' : `${notes}\n\n`}${lines}`);
}

/** The command line as completions and the manual need it; hidden options and commands are left out. */
export function commandTree(command: Command): CommandNode {
  const help = command.createHelp();
  return {
    name: command.name(),
    description: command.description(),
    usage: command.registeredArguments.map(argumentUsage).join(' '),
    words: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
    options: help.visibleOptions(command).map(optionNode),
    examples: examplesOf.get(command) ?? [],
    commands: help
      .visibleCommands(command)
      .filter((child) => child.name() !== 'help')
      .map(commandTree),
  };
}

function argumentUsage(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function optionNode(option: Option): OptionNode {
  return {
    flags: option.flags,
    short: option.short,
    long: option.long ?? option.flags,
    description: option.description,
    takes: takes(option),
    choices: option.argChoices ?? [],
  };
}

/** The placeholder says it: `<file>`, `<dir>`, and the plural forms of lists. */
function takes({ flags }: Option): Takes {
  const placeholder = /[<[]([a-z-]+)/.exec(flags)?.[1];
  if (placeholder === undefined) return 'nothing';
  if (/file/.test(placeholder)) return 'file';
  return /dir/.test(placeholder) ? 'directory' : 'word';
}
