import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import { ConfigurationError } from '../../model/errors.ts';
import { shortId } from '../../model/snapshot.ts';
import { trimAsRestic } from '../../settings/password-text.ts';
import { readPasswordFile } from '../../settings/secrets.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { askSecret, isCapable } from '../render/questions.ts';
import { renderKeys, whereItIsKept } from '../render/key.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';
import { addKeyExport } from './key-export.ts';

interface NewPasswordFlags {
  readonly newPasswordFile?: string;
}

const newPasswordOption = [
  '--new-password-file <file>',
  'file with the new password (default: asked on the terminal)',
] as const;

export function addKey(program: Command, cli: CliContext): void {
  const key = program
    .command('key')
    .description('list, add and remove the passwords that open the repository')
    .addHelpText(
      'after',
      '\nEach key has its own password and opens the whole repository, in tars and in\nstock restic.\n\nExamples:\n  tars key list\n  tars key add --new-password-file second.key\n  tars key passwd --new-password-file new.key',
    );
  key
    .command('list')
    .description('list the keys, oldest first; the one in use is marked')
    .addHelpText('after', '\nExample:\n  tars key list')
    .action((_flags: unknown, command: Command) => runVerb(command, cli, list));
  key
    .command('add')
    .description('add a key with a new password')
    .option(...newPasswordOption)
    .addHelpText('after', '\nExample:\n  tars key add --new-password-file second.key')
    .action((flags: NewPasswordFlags, command: Command) =>
      runVerb(command, cli, (session) => add(session, flags, cli)),
    );
  key
    .command('remove <id>')
    .description('remove a key; the key in use cannot be removed')
    .addHelpText('after', '\nExample:\n  tars key remove 4f3a9c21')
    .action((id: string, _flags: unknown, command: Command) =>
      runVerb(command, cli, (session) => remove(session, id)),
    );
  key
    .command('passwd')
    .description('replace the key in use by a key with a new password')
    .option(...newPasswordOption)
    .addHelpText('after', '\nExample:\n  tars key passwd --new-password-file new.key')
    .action((flags: NewPasswordFlags, command: Command) =>
      runVerb(command, cli, (session) => passwd(session, flags, cli)),
    );
  addKeyExport(key, cli);
}

async function list({ ctx, audience, env, settings }: Session): Promise<number> {
  await using store = await openStore(await settings(), env, ctx);
  const keys = await store.listKeys(ctx);
  audience.result(keys, renderKeys(keys));
  return exitCodes.success;
}

async function add(
  { ctx, audience, env, settings }: Session,
  flags: NewPasswordFlags,
  cli: CliContext,
): Promise<number> {
  await using store = await openStore(await settings(), env, ctx);
  const id = await store.addKey(await newPassword(flags, cli), ctx);
  audience.result({ id }, `Added key ${shortId(id)}. It now opens the repository, like the other keys.`);
  return exitCodes.success;
}

async function remove({ ctx, audience, env, settings }: Session, reference: string): Promise<number> {
  await using store = await openStore(await settings(), env, ctx);
  const id = await store.removeKey(reference, ctx);
  audience.result({ id }, `Removed key ${shortId(id)}. Its password no longer opens the repository.`);
  return exitCodes.success;
}

async function passwd(
  { ctx, audience, env, settings }: Session,
  flags: NewPasswordFlags,
  cli: CliContext,
): Promise<number> {
  const { repository } = await settings();
  await using store = await openStore(await settings(), env, ctx);
  const changed = await store.changePassword(await newPassword(flags, cli), ctx);
  const next = whereItIsKept(repository, env, flags.newPasswordFile);
  audience.result(
    { ...changed, next },
    `Key ${shortId(changed.added)} has replaced key ${shortId(changed.removed)}: the old password no longer\nopens the repository.\n${next}`,
  );
  return exitCodes.success;
}

/** Asked twice on the terminal, unless a file has it. Never an argument, which every user of the machine could see. */
async function newPassword(
  { newPasswordFile }: NewPasswordFlags,
  { env, stdin, stderr, signal }: CliContext,
): Promise<string> {
  if (newPasswordFile !== undefined) return requireText(await readPasswordFile(newPasswordFile));
  const terminal = { stdin, stderr, capable: isCapable(env) };
  const first = await askSecret('New password', terminal, signal);
  if (first === undefined) {
    throw new ConfigurationError('There is no terminal to ask for the new password', {
      hint: 'Give a file that holds it: --new-password-file FILE',
    });
  }
  requireText(first);
  if (trimAsRestic(first) !== first) {
    throw new ConfigurationError(
      'The new password begins or ends with a blank, which a password file cannot hold',
      {
        hint: 'Nothing was changed. Give another one.',
      },
    );
  }
  if ((await askSecret('The same again', terminal, signal)) !== first) {
    throw new ConfigurationError('The two passwords differ', { hint: 'Nothing was changed. Try again.' });
  }
  return first;
}

function requireText(password: string): string {
  if (password !== '') return password;
  throw new ConfigurationError('The new password is empty', {
    hint: 'Nothing was changed. Give another one.',
  });
}
