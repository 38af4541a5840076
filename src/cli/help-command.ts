import type { Command } from 'commander';

/** Gives `command` and what is below it a `help` that names a verb it does not know, and what is near. */
export function addHelp(command: Command): void {
  const verbs = command.commands.filter(({ commands }) => commands.length > 0);
  for (const verb of verbs) addHelp(verb);
  command
    .helpCommand(false)
    .command('help')
    .description('display help for a command')
    .argument('[command...]')
    .action((names: readonly string[]) => showHelp(command, names));
}

async function showHelp(command: Command, names: readonly string[]): Promise<void> {
  let found = command;
  for (const name of names) {
    const next = found.commands.find((child) => child.name() === name);
    // Parsed alone, it is the error that it is without help, near names included.
    if (next === undefined && found.commands.length > 0) await found.parseAsync([name], { from: 'user' });
    found = next ?? found;
  }
  found.help();
}
