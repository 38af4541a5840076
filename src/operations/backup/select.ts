import { ConfigurationError } from '../../model/errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';

/** Which components the operator wants. */
interface Selection {
  /** Undefined for all. */
  readonly only: readonly string[] | undefined;
  readonly skip: readonly string[] | undefined;
  readonly skipKinds: readonly string[];
}

/** What a backup captures of a stack, and what it does not. */
interface Selected {
  readonly components: readonly Component[];
  readonly notCaptured: Manifest['notCaptured'];
}

/** @throws ConfigurationError for a name that no component has, and when nothing is left */
export function selectComponents(
  components: readonly Component[],
  { only, skip, skipKinds }: Selection,
): Selected {
  const names = components.map(({ name }) => name);
  if (names.length === 0) {
    throw new ConfigurationError('tars.yaml names no component yet, so there is nothing to back up', {
      hint: 'Fill in its components section; its comments show how.',
    });
  }
  for (const name of [...(only ?? []), ...(skip ?? [])]) {
    if (names.includes(name)) continue;
    throw new ConfigurationError(`There is no component ${name}`, {
      hint: `tars.yaml has: ${names.join(', ')}.`,
    });
  }
  const wanted = components.filter(
    ({ name, kind }) =>
      (only ?? names).includes(name) && skip?.includes(name) !== true && !skipKinds.includes(kind),
  );
  if (wanted.length === 0) {
    throw new ConfigurationError('This selection leaves nothing to back up', {
      hint: `Between --only and --skip, leave at least one of: ${names.join(', ')}.`,
    });
  }
  const left = components.filter((component) => !wanted.includes(component));
  return {
    components: wanted,
    notCaptured: left.map(({ name }) => ({ subject: name, reason: 'skipped on request' })),
  };
}
