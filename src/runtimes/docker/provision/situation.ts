import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ConfigurationError, RestoreRefusedError } from '../../../model/errors.ts';
import type { ComposeRecord } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { ProvisionRequest } from '../../../ports/provisioner.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import {
  ComposeProject,
  findComposeCli,
  installCompose,
  missingFiles,
  type ComposeCli,
  type ComposeFiles,
} from '../compose/compose-cli.ts';
import type { ComposeModel } from '../compose/compose-model.ts';
import type { Engine } from '../engine/engine.ts';
import { readProject, type Project } from '../project/project.ts';

/** Which project is provisioned, and from what. */
export interface DockerProvisionerOptions {
  readonly engine: Engine;
  /** For Compose, which makes a connection of its own. */
  readonly address: EngineAddress;
  readonly project: string;
  /** What tars.yaml says; where it says nothing, what the containers or the manifest say. */
  readonly composeFiles: readonly string[];
  readonly envFiles: readonly string[];
  /** Services of components. */
  readonly stores: ReadonlySet<string>;
  /** The project this one is a copy of and must not touch. */
  readonly apartFrom: string | undefined;
}

/** Everything that is known before anything is created. */
export interface Situation {
  readonly project: Project;
  readonly files: ComposeFiles;
  /** Undefined where none has to be found. */
  readonly cli: ComposeCli | undefined;
  /** Undefined until the files are there, and where there is no Compose. */
  readonly model: ComposeModel | undefined;
  /** Files that must be brought back before. */
  readonly missingFiles: readonly string[];
  /** Services that have to be created. */
  readonly missing: readonly string[];
}

/**
 * Looks at what is there and what is missing, and changes nothing.
 * @throws ConfigurationError or RestoreRefusedError when what is missing cannot be created
 */
export async function readSituation(
  options: DockerProvisionerOptions,
  { recorded, stores, restorable, whole }: ProvisionRequest,
  ctx: OperationContext,
): Promise<Situation> {
  const project = await readProject(options.engine, options.project);
  const files = filesOf(options, project, recorded);
  const here = new Set(project.containers.map(({ service }) => service));
  const wanted = [
    ...stores.map(({ service }) => service),
    ...(whole ? (recorded?.services ?? []).map(({ name }) => name) : []),
  ];
  const absent = new Set(wanted.filter((service) => !here.has(service)));
  // Among them may be a .env that Compose reads unasked, and does without.
  const gone = await missingFiles([...new Set([...files.files, ...files.envFiles, ...restorable])]);
  const nothing = { project, files, cli: undefined, model: undefined, missingFiles: gone, missing: [] };
  if (absent.size === 0 && options.apartFrom === undefined) return nothing;
  const cli = await findComposeCli(recorded?.composeVersion, ctx.signal);
  const storesHere = stores.every(({ service }) => here.has(service));
  requireTools(options.project, files, cli, gone, restorable);
  if (gone.length > 0) return { ...nothing, cli, missing: [...absent].sort() };
  const model = await new ComposeProject(cli, options.address, files).model(ctx);
  // A service that the Compose file has no more is not missed; a store that a component names is.
  const known = [...model.services.values()].filter(({ name, optional }) =>
    recorded === undefined && whole ? !optional && !here.has(name) : absent.has(name),
  );
  const missing = known.map(({ name }) => name).sort();
  const unknown = stores.find(({ service }) => absent.has(service) && !model.services.has(service));
  if (unknown !== undefined) {
    throw new ConfigurationError(
      `${files.files.join(', ')} has no service ${unknown.service}, which component ${unknown.component} names`,
      { hint: `Correct service: of components.${unknown.component} in tars.yaml.` },
    );
  }
  return { ...nothing, cli, model, missing: storesHere && !whole ? [] : missing };
}

/** @throws when there is no Compose, or a file is missing that nobody brings back */
function requireTools(
  project: string,
  files: ComposeFiles,
  cli: ComposeCli | undefined,
  gone: readonly string[],
  restorable: readonly string[],
): asserts cli is ComposeCli {
  if (files.files.length === 0) {
    throw new ConfigurationError(
      `The project ${project} must be created, and nothing names its Compose file`,
      {
        hint: 'Name it in docker.compose_files of tars.yaml.',
      },
    );
  }
  const lost = gone.filter((path) => !restorable.includes(path));
  if (lost.length > 0) {
    throw new RestoreRefusedError(
      `The project ${project} must be created, and its files ${lost.join(', ')} are neither on this machine nor in the snapshot`,
      { hint: 'Put them there, or name others in docker.compose_files and docker.env_files of tars.yaml.' },
    );
  }
  if (cli !== undefined) return;
  throw new RestoreRefusedError(
    `The project ${project} must be created, and there is no Docker Compose on this machine`,
    { hint: installCompose },
  );
}

function filesOf(
  { project, composeFiles, envFiles }: DockerProvisionerOptions,
  found: Project,
  recorded: ComposeRecord | undefined,
): ComposeFiles {
  const known = [
    { files: found.composeFiles, directory: found.workingDir },
    { files: recorded?.composeFiles ?? [], directory: recorded?.workingDir },
  ];
  const files = composeFiles.length > 0 ? composeFiles : (known.find((k) => k.files.length > 0)?.files ?? []);
  const directory = known.find((candidate) => isDeepStrictEqual([...candidate.files], [...files]))?.directory;
  const sameFiles = isDeepStrictEqual([...(recorded?.composeFiles ?? [])], [...files]);
  return {
    project,
    files,
    envFiles: envFiles.length > 0 || !sameFiles ? envFiles : (recorded?.envFiles ?? []),
    directory: directory ?? dirname(files[0] ?? '/'),
  };
}
