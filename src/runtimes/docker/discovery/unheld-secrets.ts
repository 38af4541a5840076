import { join } from 'node:path';
import {
  coveredPaths,
  isWithin,
  withoutCaptured,
  type CapturedPlace,
} from '../../../model/captured-place.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import type { Engine } from '../engine/engine.ts';
import { mountsOf } from '../project/mounts.ts';
import type { Project, ProjectContainer } from '../project/project.ts';
import { inspectImage } from '../provision/images.ts';
import { lookAt } from './look.ts';

/** What components capture, as far as secrets lie in it. */
export interface HeldSecrets {
  readonly captured: readonly CapturedPlace[];
  /** The captured configuration files. */
  readonly texts: readonly string[];
  /** Values that are captured beside them. */
  readonly values: ReadonlySet<string>;
  /** Paths of this machine that are tars' own. */
  readonly own: readonly string[];
  /** Whether a variable looks like a password or a key. */
  readonly isSecret: (name: string, value: string) => boolean;
}

/** Shorter ones stand in many files by chance. */
const valueLengthMin = 8;

/**
 * Keys and passwords that an application needs to read its own data, and that a restore would not bring back: variables of
 * containers that no captured file holds, and files that look like keys. Only their names.
 */
export async function unheldSecrets(
  engine: Engine,
  address: EngineAddress,
  project: Project,
  held: HeldSecrets,
): Promise<readonly string[]> {
  const texts = held.texts.map((text) => text.replaceAll('$$', '$'));
  const variables = await Promise.all(
    project.containers.map(async (container) => {
      const image = await inspectImage(engine, container.imageId);
      return secretVariables(container, image?.environment ?? {}, { ...held, texts });
    }),
  );
  const mounts = mountsOf(project.containers, address);
  const covered = held.captured.flatMap((place) => coveredPaths(place, mounts));
  const open = withoutCaptured(mounts, held.captured).filter(({ readOnly }) => !readOnly);
  const directories = new Set([
    ...open.map(({ path }) => path),
    ...(project.workingDir === undefined ? [] : [project.workingDir]),
  ]);
  const files = await Promise.all([...directories].map(keyFilesIn));
  const isHeld = (path: string): boolean => [...covered, ...held.own].some((outer) => isWithin(path, outer));
  return [...variables.flat(), ...new Set(files.flat().filter((path) => !isHeld(path)))];
}

/** Those that neither the image nor a captured file explains. */
export function secretVariables(
  { service, environment }: Pick<ProjectContainer, 'service' | 'environment'>,
  ofImage: Readonly<Record<string, string>>,
  { texts, values, isSecret }: Pick<HeldSecrets, 'texts' | 'values' | 'isSecret'>,
): readonly string[] {
  return Object.entries(environment)
    .filter(([name, value]) => value.length >= valueLengthMin && ofImage[name] !== value)
    .filter(([name, value]) => isSecret(name, value))
    .filter(([, value]) => !values.has(value) && !texts.some((text) => text.includes(value)))
    .map(([name]) => `${name} of ${service}`);
}

async function keyFilesIn(directory: string): Promise<readonly string[]> {
  const { names, below } = await lookAt(directory);
  return [...names, ...below]
    .filter((name) => looksLikeKey(directory, name))
    .map((name) => join(directory, name));
}

const example = /(example|sample|template|dist|default)/i;
const environmentFile = /^\.env(\..+)?$/;
const keyFile = /\.(pem|key)$|(^|[._-])(secret|encryption|private|master|root)[._-]?key$/i;

/** Whether a file is called like one with keys. @param path relative to `directory` */
export function looksLikeKey(directory: string, path: string): boolean {
  const name = path.split('/').at(-1) ?? '';
  if (environmentFile.test(name)) return !example.test(name);
  // n8n keeps the key of all its credentials there.
  if (name === 'config' && path === name && /n8n/.test(directory)) return true;
  return keyFile.test(name);
}
