import type { Command } from 'commander';
import { basename } from 'node:path';
import { isVisible } from '../../disk/is-there.ts';
import { bundleExists, supportTools } from '../../composition/index.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import type { BundleCompression } from '../../operations/support-bundle/archive.ts';
import { makeSupportBundle } from '../../operations/support-bundle/index.ts';
import { loadSettings } from '../../composition/settings.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderSupportBundle } from '../render/support-bundle.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';
import { supportSources } from '../wiring/support-bundle.ts';

interface BundleFlags {
  readonly output?: string;
  readonly dryRun?: boolean;
}

export function addSupportBundle(program: Command, cli: CliContext): void {
  program
    .command('support-bundle')
    .description('write an archive for a problem report, with secrets redacted')
    .option('-o, --output <file>', 'file to write, with a name that ends in .tar.gz or .tar.zst')
    .option('--dry-run', 'print what it would hold, and write nothing')
    .addHelpText(
      'after',
      `
The archive holds versions, redacted configuration, the findings of doctor, the
last runs, the last lines of logs, states of containers and the structure of the
repository. You can post it publicly. It holds no data and no file name of a
snapshot; it does hold names of hosts, paths and services. If tars.yaml, the
repository or the Engine is missing, the others are still collected, and
manifest.json in the archive lists what is missing and why. The exit code is 0
if the archive was written.

Examples:
  tars support-bundle
  tars support-bundle --output /tmp/for-the-forum.tar.gz`,
    )
    .action((flags: BundleFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags)),
    );
}

/** Not by the session's settings: those put right what a restore left, and nothing may change here. */
async function run({ ctx, audience, env, configPath }: Session, flags: BundleFlags): Promise<number> {
  const settings = await loadSettings(configPath, env).catch(
    (error: unknown) => toTarsError(error, 'The configuration cannot be read').message,
  );
  const stack = typeof settings === 'string' ? 'unknown' : settings.stack;
  const output = flags.output ?? `tars-support-${stack}-${timeInName(ctx.clock.now())}.tar.gz`;
  const compression = compressionOf(output);
  if (flags.dryRun !== true) await requireFree(output);
  const tools = supportTools(typeof settings === 'string' ? undefined : settings.docker, env);
  const { manifest, archive } = await makeSupportBundle(
    {
      sources: await supportSources({ settings, configPath, env, tools }),
      cleaner: tools.cleaner,
      folder: basename(output).replace(archiveName, ''),
      compression,
    },
    ctx,
  );
  if (flags.dryRun === true) {
    audience.result({ manifest }, renderSupportBundle(manifest, undefined, audience.columns));
    return exitCodes.success;
  }
  await tools.publish(output, archive, ctx.signal);
  const written = { path: output, sizeBytes: archive.byteLength };
  audience.result({ ...written, manifest }, renderSupportBundle(manifest, written, audience.columns));
  return exitCodes.success;
}

const archiveName = /\.(?:tar\.gz|tgz|tar\.zst)$/;

function compressionOf(output: string): BundleCompression {
  const ending = archiveName.exec(basename(output))?.[0];
  if (ending !== undefined) return ending === '.tar.zst' ? 'zstd' : 'gzip';
  throw new ConfigurationError(`${output} is not a name for a support bundle`, {
    hint: 'Give a name that ends in .tar.gz or .tar.zst.',
  });
}

/** Known before all the work is done; the writing itself overwrites nothing either. */
async function requireFree(path: string): Promise<void> {
  if (await isVisible(path)) throw bundleExists(path);
}

/** `20261124_030000` in UTC */
const timeInName = (time: Date): string =>
  time.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
