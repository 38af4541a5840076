import assert from 'node:assert/strict';
import type { Command } from 'commander';
import { test } from 'node:test';
import { tars } from '../fixtures/cli.ts';
import { programToRead } from '../fixtures/program.ts';

const withCommands = (command: Command): Command[] => [command, ...command.commands.flatMap(withCommands)];

/** What `--help` prints where there is no terminal. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => 80 });
  command.outputHelp();
  return text;
}

test('every verb explains itself, --json and --config included, in 80 columns', () => {
  const commands = withCommands(programToRead());
  assert.ok(commands.length > 20, `${commands.length} commands`);
  for (const command of commands) {
    const help = helpOf(command);
    for (const flag of ['--json', '--config <file>']) assert.ok(help.includes(flag), help);
    const wide = help.split('\n').filter((line) => line.length > 80);
    assert.deepEqual(wide, [], command.name());
  }
});

test('--help prints that, and ends well', async () => {
  for (const words of [[], ['verify'], ['schedule', 'install']]) {
    let command = programToRead();
    for (const word of words) command = command.commands.find((one) => one.name() === word) ?? command;
    const { exitCode, stdout } = await tars([...words, '--help']);
    assert.equal(exitCode, 0);
    assert.equal(stdout, helpOf(command).trimEnd());
  }
});
