import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import { shellWord } from '../../model/shell-word.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';

import type { ConfigSettings } from './settings.ts';

const configFacts = z.object({
  trueCopy: z.enum(['repository', 'sealed', 'none']),
  files: z.array(z.object({ path: z.string() })),
});

/** Puts files of the configuration back, from the true copies or the sealed one. */
function step({ component }: RecoveryPart, settings: ConfigSettings | undefined): RecoveryStep {
  const { trueCopy, files } = configFacts.parse(component.facts);
  const title = `Configuration (${component.name})`;
  if (trueCopy === 'none') {
    const text = `The snapshots hold redacted views of the files only, under ${component.name}/redacted: their secrets are not in the snapshots.`;
    return { title, text: [text], commands: [] };
  }
  const careful = 'Existing files are replaced: check them first.';
  if (trueCopy === 'repository') {
    const stored = (path: string): string => shellWord(`${component.name}/true${path}`);
    const commands = files.flatMap(({ path }) => [
      `mkdir -p ${shellWord(directoryOf(path))}`,
      `cp -p ${stored(path)} ${shellWord(path)}`,
    ]);
    return { title, text: [careful], commands: [...new Set(commands)] };
  }
  const identityFile = settings?.age_identity_file;
  const where = identityFile === undefined ? 'where you keep it' : `${identityFile} on the old machine`;
  return {
    title,
    text: [
      `The files are sealed: besides the recovery key you need the age identity, a file with a line ` +
        `AGE-SECRET-KEY-1…; it was ${where}. Write its path into the first line. ${careful}`,
    ],
    commands: [
      `export IDENTITY=${shellWord(identityFile ?? '/path/to/age-identity.txt')}`,
      `age -d -i "$IDENTITY" ${shellWord(`${component.name}/sealed.age`)} | tar -xpf - -C /`,
    ],
    then: [`It restores ${files.map(({ path }) => path).join(', ')}.`],
  };
}

const directoryOf = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf('/')));

export const recovery: RecoverySlot<ConfigSettings> = {
  phase: 'configuration',
  namesArtifacts: true,
  home: () => ({}),
  step,
};
