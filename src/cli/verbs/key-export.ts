import { Option, type Command } from 'commander';
import { relative, resolve, sep } from 'node:path';
import { createDurably } from '../../disk/durable-file.ts';
import { throwIfAborted } from '../../model/abort.ts';
import {
  composeStack,
  kindOf,
  openStoreAndPassword,
  recordKitExport,
  recoveryOf,
} from '../../composition/index.ts';
import { requireMounted } from '../../disk/mounts.ts';
import { withArtifacts } from '../../model/artifact-list.ts';
import { ConfigurationError, hasErrno, toTarsError } from '../../model/errors.ts';
import type { ComponentManifest, Manifest } from '../../model/manifest.ts';
import { keyCheck, renderKitHtml, renderKitText, type RecoveryKit } from '../../model/recovery-kit.ts';
import { shellWord } from '../../model/shell-word.ts';
import { isOwnedBy, type SnapshotSummary } from '../../model/snapshot.ts';
import { toolVersion } from '../../model/version.ts';
import { recoverySteps } from '../../operations/recovery-kit/recovery-kit.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RecoveryHome } from '../../ports/kind.ts';
import type { SnapshotStore } from '../../ports/snapshot-store.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import type { ServiceSettings } from '../../settings/schema.ts';
import { trimAsRestic } from '../../settings/password-text.ts';
import { exitCodes } from '../exit-codes.ts';
import { runVerb, type Session, type CliContext } from '../session.ts';

interface ExportFlags {
  readonly output?: string;
  readonly format: 'text' | 'html';
  readonly print?: boolean;
}

export function addKeyExport(key: Command, cli: CliContext): void {
  key
    .command('export')
    .description('make the recovery kit: a page with the key and the way back without tars')
    .option('-o, --output <file>', 'write it there, readable by you alone')
    .addOption(
      new Option('--format <format>', 'text, or a page for a browser')
        .choices(['text', 'html'])
        .default('text'),
    )
    .option('--print', 'print it although the output is no terminal')
    .addHelpText(
      'after',
      '\nKeep it away from the machine: whoever has it and the repository can read\neverything.\n\nExamples:\n  tars key export\n  tars key export --format html --output recovery-kit.html',
    )
    .action((flags: ExportFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags, cli.stdout.isTTY)),
    );
}

async function run(session: Session, flags: ExportFlags, isTerminal: boolean): Promise<number> {
  const { ctx, audience, env } = session;
  const { output, format } = flags;
  if (output === undefined && flags.print !== true && !isTerminal) {
    throw new ConfigurationError('The recovery key is not printed where there is no terminal', {
      hint: 'Give a file with --output, or --print if the output is meant to get it.',
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
  const kit = await makeKit({ settings, key, store, homes: await homesOf(settings, env, ctx) }, ctx);
  const page = format === 'html' ? renderKitHtml(kit) : renderKitText(kit);
  if (output !== undefined) await writeNew(output, page);
  const keyId = (await store.listKeys(ctx)).find(({ isCurrent }) => isCurrent)?.id ?? '';
  const exportedAt = kit.exportedAt.toISOString();
  await recordKitExport(settings.state_dir, store.id, {
    ...{ exportedAt, keyId },
    ...(output === undefined ? {} : { output: resolve(output) }),
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
      : 'begins or ends with a blank, which nobody sees on paper';
  if (problem === undefined) return key;
  throw new ConfigurationError(`The password of the repository ${problem}`, {
    hint: 'Add one that can be printed with: tars key add',
  });
}

function refuseInRepository(repository: string, output: string): void {
  const way = relative(resolve(repository), resolve(output));
  if (way === '..' || way.startsWith(`..${sep}`)) return;
  throw new ConfigurationError(`The recovery kit ${output} would lie inside the repository`, {
    hint: 'Put it elsewhere: whoever gets the repository must not get its key with it.',
  });
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    await createDurably(path, text);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw toTarsError(error, `Cannot write ${path}`);
    throw new ConfigurationError(`${path} exists already, and is not replaced`, {
      hint: 'Give another name, or remove it first.',
      cause: error,
    });
  }
}

interface KitSources {
  readonly settings: Settings;
  readonly key: string;
  readonly store: SnapshotStore;
  readonly homes: Readonly<Record<string, RecoveryHome>>;
}

async function makeKit(
  { settings, key, store, homes }: KitSources,
  ctx: OperationContext,
): Promise<RecoveryKit> {
  const { stack, host, repository, age_recipients: recipients } = settings;
  const newest = await newestSnapshot(settings, store, ctx);
  const facts = {
    ...{
      stack,
      hostname: host,
      repository: repository.path,
      repositoryId: store.id,
      keyCheck: keyCheck(key),
    },
    manifest: newest?.manifest,
    recoveryOf: (component: ComponentManifest) => recoveryOf(component, settings.components, homes),
    starts: startCommands(settings),
  };
  return {
    ...{ stack, hostname: host, toolVersion, exportedAt: ctx.clock.now(), key },
    repository: { location: repository.path, id: store.id },
    snapshot: newest === undefined ? undefined : snapshotOf(newest),
    remarks:
      recipients.length === 0
        ? []
        : [
            `Sealed configuration opens with the age identity of ${recipients.join(' or ')}; this page does not hold it.`,
          ],
    steps: recoverySteps(facts),
  };
}

interface Newest {
  readonly summary: SnapshotSummary;
  readonly manifest: Manifest;
}

const snapshotOf = ({ summary, manifest }: Newest): RecoveryKit['snapshot'] => ({
  id: summary.id,
  time: summary.time,
  partial: manifest.outcome === 'partial',
});

/** The newest complete snapshot; a partial one when there is no other. */
async function newestSnapshot(
  settings: Settings,
  store: SnapshotStore,
  ctx: OperationContext,
): Promise<Newest | undefined> {
  const own = (await store.list(ctx)).filter((summary) => isOwnedBy(summary, ownerOf(settings)));
  const chosen = own.findLast(({ tags }) => !tags.includes('partial')) ?? own.at(-1);
  if (chosen === undefined) return undefined;
  await using source = await store.open(chosen.id, undefined, ctx);
  const manifest = await source.manifest(ctx.signal);
  // The page names single artifacts of stores. Of directories it names none, however many they have.
  const components = manifest.components.map((component) =>
    kindOf(component.kind)?.recovery.namesArtifacts === false
      ? Promise.resolve(component)
      : withArtifacts(component, source, ctx.signal),
  );
  return { summary: chosen, manifest: { ...manifest, components: await Promise.all(components) } };
}

async function homesOf(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<Readonly<Record<string, RecoveryHome>>> {
  const homes = Object.entries(settings.components).map(
    ([name, { recovery }]) => [name, recovery.home] as const,
  );
  if (settings.docker === undefined) return Object.fromEntries(homes);
  const { components } = await composeStack(settings, { includeModels: false }, env);
  const inContainers = new Map(
    await Promise.all(
      components.map(async (component) => [component.name, await containerHome(component, ctx)] as const),
    ),
  );
  return Object.fromEntries(homes.map(([name, home]) => [name, { ...home, ...inContainers.get(name) }]));
}

/** Where a store of a Compose project keeps its data, as its container sees it. */
async function containerHome(
  component: Component,
  ctx: OperationContext,
): Promise<Pick<RecoveryHome, 'directory' | 'inContainer'>> {
  try {
    const [place] = (await component.places?.(ctx)) ?? [];
    if (place === undefined || !('store' in place) || place.service === undefined) return {};
    return { directory: place.store, inContainer: true };
  } catch (error) {
    throwIfAborted(ctx.signal);
    const { message } = toTarsError(error, `Cannot find out where ${component.name} keeps its data`);
    ctx.log.warn(`${message}. The page leaves its directory open: export it again once that is fixed`);
    return {};
  }
}

/** Of local services but those that run already, as data was restored through them. */
function startCommands({ services, components }: Settings): readonly string[] {
  const running = new Set(
    Object.values(components).flatMap(({ recovery, service }) =>
      recovery.phase === 'running' ? [service] : [],
    ),
  );
  const ordered = new Set<string>();
  const visit = (name: string, path: ReadonlySet<string>): void => {
    if (path.has(name)) return;
    for (const needed of services[name]?.depends_on ?? []) visit(needed, new Set([...path, name]));
    ordered.add(name);
  };
  for (const name of Object.keys(services)) visit(name, new Set());
  return [...ordered]
    .filter((name) => !running.has(name))
    .flatMap((name) => {
      const service = services[name];
      return service === undefined ? [] : startCommand(service);
    });
}

function startCommand({
  start,
  systemd_unit: unit,
  command,
  log_file: log,
}: ServiceSettings): readonly string[] {
  const words = (argv: readonly string[]): string => argv.map(shellWord).join(' ');
  if (start !== undefined) return [words(start)];
  if (unit !== undefined) return [words(['systemctl', 'start', unit])];
  if (command === undefined) return [];
  return [`nohup ${words(command)} >> ${shellWord(log ?? '/dev/null')} 2>&1 < /dev/null &`];
}
