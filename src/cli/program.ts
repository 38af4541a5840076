import { Command } from 'commander';
import { toolVersion } from '../model/version.ts';
import { failureLine } from './render/json.ts';
import type { CliContext } from './session/session.ts';
import { addBackup } from './verbs/backup.ts';
import { addCheck } from './verbs/check.ts';
import { addCompletion } from './verbs/completion.ts';
import { addDaemon } from './verbs/daemon.ts';
import { addDemo } from './verbs/demo.ts';
import { addDoctor } from './verbs/doctor.ts';
import { addForget } from './verbs/forget.ts';
import { addInit } from './verbs/init.ts';
import { addKey } from './verbs/key.ts';
import { addPrune } from './verbs/prune.ts';
import { addRestore } from './verbs/restore.ts';
import { addSchedule } from './verbs/schedule.ts';
import { addShow } from './verbs/show.ts';
import { addSnapshots } from './verbs/snapshots.ts';
import { addStatus } from './verbs/status.ts';
import { addSupportBundle } from './verbs/support-bundle.ts';
import { addUnlock } from './verbs/unlock.ts';
import { addVerify } from './verbs/verify.ts';

/** The whole command line; one file per verb. It throws CommanderErrors instead of ending the process. */
export function createProgram(cli: CliContext): Command {
  const program = new Command('tars')
    .description(
      'Takes consistent, encrypted, deduplicated snapshots of a whole self-hosted AI stack, and restores them.',
    )
    .version(toolVersion, '-V, --version')
    .option(
      '-c, --config <file>',
      'configuration file (default: TARS_CONFIG, ./tars.yaml, ~/.config/tars/, /etc/tars/)',
    )
    .option('--json', 'print results as JSON on stdout, events as JSON lines on stderr')
    .option('-v, --verbose', 'print more messages')
    .configureHelp({ showGlobalOptions: true, minWidthToWrap: 20 })
    .configureOutput({
      outputError: usageErrors(cli.json),
      writeOut: (text) => void cli.stdout.write(text),
      writeErr: (text) => void cli.stderr.write(text),
    })
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit codes: 0 success, 1 error, 2 partial, 10 no repository, 11 locked,\n12 wrong password, 130 interrupted',
    );
  for (const add of [
    addInit,
    addDoctor,
    addBackup,
    addSnapshots,
    addShow,
    addRestore,
    addVerify,
    addCheck,
    addForget,
    addPrune,
    addKey,
    addSchedule,
    addStatus,
    addDaemon,
    addUnlock,
    addSupportBundle,
    addDemo,
    addCompletion,
  ]) {
    add(program, cli);
  }
  addHelp(program);
  return program;
}

/** Errors of usage in the form of all others. */
function usageErrors(json: boolean): (text: string, write: (text: string) => void) => void {
  const hint = 'Run it with --help for a list.';
  return (text, write) => {
    const sentence = text
      .trim()
      .replace(/^error: /, '')
      .replaceAll('\n', ' ');
    const message = sentence.charAt(0).toUpperCase() + sentence.slice(1);
    write(
      json ? failureLine({ code: 'configuration', message, hint }) : `[ERROR] ${message}\n        ${hint}\n`,
    );
  };
}

/** Gives `command` and what is below it a `help` that names a verb it does not know, and what is near. */
function addHelp(command: Command): void {
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
