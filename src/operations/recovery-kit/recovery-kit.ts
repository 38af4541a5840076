import { artifactTotals } from '../../model/artifact-list.ts';
import type { ComponentManifest, ComposeRecord, Manifest } from '../../model/manifest.ts';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import { surroundingLines } from '../../model/surroundings.ts';
import { shellWord } from '../../model/shell-word.ts';
import { recoveryPhases, type RecoveryPart, type RecoveryPhase } from '../../ports/kind.ts';

/** How one component of the snapshot is recovered. */
export interface ComponentRecovery {
  readonly phase: RecoveryPhase;
  readonly home: RecoveryPart['home'];
  readonly step: (part: RecoveryPart) => RecoveryStep;
}

/** What the steps are written from. */
interface RecoveryFacts {
  readonly stack: string;
  /** The host whose snapshots are meant. */
  readonly hostname: string;
  readonly repository: string;
  readonly repositoryId: string;
  readonly keyCheck: string;
  /** Of the newest snapshot; undefined while there is none. */
  readonly manifest: Manifest | undefined;
  /** How its components are recovered. */
  readonly recoveryOf: (component: ComponentManifest) => ComponentRecovery | undefined;
  /** Commands that start the services which need a command, in the order of what they need. */
  readonly starts: readonly string[];
}

/**
 * The steps of a recovery with stock restic, the stores' own programs and a shell, with the paths and names of this
 * stack. Nothing in them needs tars.
 */
export function recoverySteps(facts: RecoveryFacts): readonly RecoveryStep[] {
  const { manifest } = facts;
  if (manifest === undefined) return [openStep(facts), fetchStep(facts)];
  const captured = manifest.components.filter(({ outcome }) => outcome === 'captured');
  const steps = captured.flatMap((component) => {
    const recovery = facts.recoveryOf(component);
    if (recovery === undefined) return [];
    const { phase, home, step } = recovery;
    return [{ phase, step: step({ component, home, compose: manifest.compose }) }];
  });
  const created = manifest.compose === undefined ? [] : [createStep(manifest.compose)];
  return [
    openStep(facts),
    fetchStep(facts),
    ...recoveryPhases.flatMap((phase) => [
      ...steps.filter((each) => each.phase === phase).map(({ step }) => step),
      // Its files are there now.
      ...(phase === 'configuration' ? created : []),
    ]),
    startStep(facts, manifest),
  ];
}

function openStep({ repository, repositoryId, keyCheck }: RecoveryFacts): RecoveryStep {
  return {
    title: 'Open the repository',
    text: [
      'Work as root on a machine with restic 0.14 or newer and the programs of the stores. If the repository is ' +
        'mounted in another place now, change the first line. At the second line, type the recovery key and press Enter. ' +
        'Do not confuse 1, l and I, or 0 and O.',
    ],
    commands: [
      `export RESTIC_REPOSITORY=${shellWord(repository)}`,
      'IFS= read -r RESTIC_PASSWORD && export RESTIC_PASSWORD',
      'printf %s "$RESTIC_PASSWORD" | sha256sum | cut -c1-8',
      'restic cat config',
      'restic snapshots',
    ],
    then: [
      `The third line must print ${keyCheck}: otherwise the key is mistyped. The fourth must show the id ` +
        `${repositoryId}.`,
    ],
  };
}

function fetchStep({ stack, hostname, manifest }: RecoveryFacts): RecoveryStep {
  const sizes = (manifest?.components ?? []).map((component) => artifactTotals(component).sizeBytes);
  const needed = Math.ceil(sizes.reduce((sum, bytes) => sum + bytes, 0) / 2 ** 20);
  return {
    title: 'Extract the newest snapshot',
    text: [
      'If the snapshot is tagged partial, a component is missing: then use the id of an older one instead of latest.' +
        (manifest === undefined ? '' : ` The directory in the first line needs ${needed} MiB of free space.`),
    ],
    commands: [
      'export RESCUE=/var/tmp/tars-rescue',
      `restic restore latest --host ${shellWord(hostname)} --path ${shellWord(`/tars/${stack}`)} --target "$RESCUE"`,
      `cd "$RESCUE"/${shellWord(`tars/${stack}`)}`,
    ],
    then:
      manifest === undefined
        ? ['There was no snapshot when this page was made: export it again after the first backup.']
        : ['What the snapshot holds, with the counts of every store, is in manifest.json.'],
  };
}

function createStep(compose: ComposeRecord): RecoveryStep {
  const { project, workingDir, composeFiles, envFiles } = compose;
  const before = surroundingLines(compose);
  const flags = [
    `-p ${shellWord(project)}`,
    ...(workingDir === undefined ? [] : [`--project-directory ${shellWord(workingDir)}`]),
    ...composeFiles.map((file) => `-f ${shellWord(file)}`),
    ...envFiles.map((file) => `--env-file ${shellWord(file)}`),
  ];
  return {
    title: `Create the Compose project ${project}`,
    text: [
      'Missing images are pulled or built; manifest.json names them with their digests. Of all programs, this step ' +
        'needs only Docker with Compose 2.',
      ...(before.length === 0
        ? []
        : [
            'The first lines create what Compose does not create. Leave out what is there already. If a subnet is taken, ' +
              'leave out --subnet and --gateway.',
          ]),
    ],
    commands: [...before, `compose() { docker compose ${flags.join(' ')} "$@"; }`, 'compose up --no-start'],
  };
}

function startStep({ starts }: RecoveryFacts, { compose }: Manifest): RecoveryStep {
  const commands = compose === undefined ? starts : ['compose up -d'];
  return {
    title: 'Start everything',
    text:
      commands.length === 0
        ? [
            'If cp could not set an owner, give the files the owners that the services run as. Then start the services.',
          ]
        : ['If cp could not set an owner, give the files the owners that the services run as.'],
    commands,
    then: [
      'Compare with manifest.json: rows of tables, keys of databases, records of collections. Then make a first backup ' +
        'of the new machine, and remove "$RESCUE", which holds every secret of the stack.',
    ],
  };
}
