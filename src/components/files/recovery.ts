import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';
import { containerPlace, machinePlace, type Place } from '../recovery-places.ts';
import type { FilesSettings } from './settings.ts';

const treesFacts = z.object({ trees: z.array(z.object({ path: z.string() })) });

/** Puts whole directories back. */
function step(part: RecoveryPart): RecoveryStep {
  const { component, home } = part;
  const paths = treesFacts.parse(component.facts).trees.map(({ path }) => path);
  const place = (path: string): Place =>
    home.inContainer === true ? containerPlace(part, path) : machinePlace(path);
  return {
    title: `Directories (${component.name})`,
    text: [],
    commands: paths.flatMap((path) => place(path).fill(`${component.name}${path === '/' ? '' : path}/.`)),
  };
}

export const recovery: RecoverySlot<FilesSettings> = {
  phase: 'directories',
  // However many they are, it names none.
  namesArtifacts: false,
  home: ({ service, inside }) => ({ service, inContainer: inside !== undefined }),
  step,
};
