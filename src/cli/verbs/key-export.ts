import { Option, type Command } from 'commander';
import { createDurably } from '../../disk/durable-file.ts';
import { resolve } from 'node:path';
import { openStoreAndPassword, recordKitExport } from '../../composition/index.ts';
import { requireMounted } from '../../disk/mounts.ts';
import { ConfigurationError, hasErrno, toTarsError } from '../../model/errors.ts';
import { keyCheck, renderKitHtml, renderKitText } from '../../model/recovery-kit.ts';
import { trimAsRestic } from '../../settings/password-text.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { liesInside } from '../init/create.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';
import { recoveryKit } from '../wiring/recovery-kit.ts';

interface ExportFlags {
  readonly output?: string;
  readonly format: 'text' | 'html';
  readonly print?: boolean;
}

export function addKeyExport(key: Command, cli: CliContext): void {
  key
    .command('export')
    .description('print the recovery kit: a page with the key and every step of a recovery without tars')
    .option('-o, --output <file>', 'write it to this file, readable only for you')
    .addOption(
      new Option('--format <format>', 'format: text, or a page for a browser')
        .choices(['text', 'html'])
        .default('text'),
    )
    .option('--print', 'print it even if the output is not a terminal')
    .addHelpText(
      'after',
      '\nKeep it away from the machine: anyone who has it and the repository can read\neverything.\n\nExamples:\n  tars key export\n  tars key export --format html --output recovery-kit.html',
    )
    .action((flags: ExportFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags, cli.stdout.isTTY)),
    );
}

async function run(session: Session, flags: ExportFlags, isTerminal: boolean): Promise<number> {
  const { ctx, audience, env } = session;
  const { output, format } = flags;
  if (output === undefined && flags.print !== true && !isTerminal) {
    throw new ConfigurationError('The recovery key is printed only on a terminal', {
      hint: 'Give a file with --output, or add --print if the output may hold the key.',
    });
  }
  const settings = await session.settings();
  if (output !== undefined) {
    refuseInRepository(settings.repository.path, output);
    await requireMounted(output);
  }
  const opened = await openStoreAndPassword(settings, env, ctx);
  await using store = opened.store;
  const key = printable(opened.password);
  const kit = await recoveryKit(settings, { key, store }, env, ctx);
  const page = format === 'html' ? renderKitHtml(kit) : renderKitText(kit);
  if (output !== undefined) await writeNew(output, page);
  const keyId = (await store.listKeys(ctx)).find(({ isCurrent }) => isCurrent)?.id ?? '';
  const exportedAt = kit.exportedAt.toISOString();
  await recordKitExport(settings.state_dir, store.id, {
    ...{ exportedAt, keyId },
    output: output && resolve(output),
  });
  const value = {
    ...{ stack: kit.stack, repository: kit.repository, exportedAt, keyId, check: keyCheck(key), format },
    ...(output === undefined ? { page } : { output: resolve(output) }),
  };
  audience.result(value, output === undefined ? page.trimEnd() : renderWritten(output));
  return exitCodes.success;
}

const renderWritten = (output: string): string =>
  [`Wrote the recovery kit ${output}`, 'Print it, keep it away from this machine, and remove the file.'].join(
    '\n',
  );

/** What a page cannot show cannot be typed from it either. */
function printable(key: string): string {
  const problem = /\p{Cc}/u.test(key)
    ? 'has characters that cannot be printed'
    : trimAsRestic(key) === key
      ? undefined
      : 'begins or ends with a blank, which no one sees on paper';
  if (problem === undefined) return key;
  throw new ConfigurationError(`The password of the repository ${problem}`, {
    hint: 'Add one that can be printed with: tars key add',
  });
}

function refuseInRepository(repository: string, output: string): void {
  if (!liesInside(repository, output)) return;
  throw new ConfigurationError(`The recovery kit ${output} would lie inside the repository`, {
    hint: 'Choose another place: anyone who gets the repository must not get its key with it.',
  });
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    await createDurably(path, text);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw toTarsError(error, `Cannot write ${path}`);
    throw new ConfigurationError(`${path} already exists and is not replaced`, {
      hint: 'Give another name, or remove it first.',
      cause: error,
    });
  }
}
