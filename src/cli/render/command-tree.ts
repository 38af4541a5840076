import type { EventEmitter } from 'node:events';
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
  /** What its help says after the options, by paragraphs. */
  readonly notes: readonly string[];
  readonly examples: readonly string[];
  readonly commands: readonly CommandNode[];
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
    ...afterOptions(command),
    commands: help
      .visibleCommands(command)
      .filter((child) => child.name() !== 'help')
      .map(commandTree),
  };
}

/** The text of addHelpText(), which commander writes when this event comes. */
function afterOptions(command: Command): Pick<CommandNode, 'notes' | 'examples'> {
  let text = '';
  const write = (part: string): void => void (text += part);
  // Its types do not say that a Command is an emitter of events, its documentation does.
  (command as unknown as EventEmitter).emit('afterHelp', { error: false, command, write });
  const [notes = '', examples = ''] = text.split(/^Examples?:$/m);
  const lines = (part: string): string[] => part.split('\n').map((line) => line.trim());
  return {
    notes: notes
      .split('\n\n')
      .map((part) => lines(part).join(' ').trim())
      .filter((part) => part !== ''),
    examples: lines(examples).filter((line) => line !== ''),
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
