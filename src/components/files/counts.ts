import { artifactTotals } from '../../model/artifact-list.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { Amount } from '../../model/shrinkage.ts';

/** Every file of a directory is an artifact; of what failed nothing is known. */
export const counts = (component: ComponentManifest): readonly Amount[] =>
  component.outcome === 'captured' ? [['files', artifactTotals(component).count]] : [];
