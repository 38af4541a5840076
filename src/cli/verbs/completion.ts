import { Argument, type Command } from 'commander';
import { commandTree } from '../render/command-tree.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { completionScript, shells, type Shell } from '../render/completion.ts';
import { runVerb, type CliContext } from '../session/session.ts';

export function addCompletion(program: Command, cli: CliContext): void {
  program
    .command('completion')
    .description('print a script that completes tars commands in a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .addHelpText(
      'after',
      '\nExamples:\n  tars completion bash > /etc/bash_completion.d/tars\n  tars completion zsh > /usr/local/share/zsh/site-functions/_tars\n  tars completion fish > ~/.config/fish/completions/tars.fish',
    )
    .action((shell: Shell, _flags: unknown, self: Command) =>
      runVerb(self, cli, ({ audience }) => {
        const script = completionScript(shell, commandTree(program));
        audience.result({ shell, script }, script.trimEnd());
        return Promise.resolve(exitCodes.success);
      }),
    );
}
