import { stat } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import { leftoversAt } from '../paths/leftovers.ts';
import { singleUse } from '../restore/single-use.ts';
import { prepareConfigCapture } from './capture.ts';
import type { DerivedSource } from '../../ports/store-place.ts';
import { derivedPaths, readDerived } from './derived.ts';
import { planConfigRestore } from './plan.ts';
import { requireRecipients } from './sealed.ts';
import { removeStaged, stageConfigRestore } from './stage.ts';
import { configGeneration } from './swap.ts';
import { verifyConfig } from './verify.ts';

const kind = 'config';

/** Which files are captured, and where true copies of their secrets may go. */
export interface ConfigOptions {
  readonly name: string;
  /** Absolute paths of single files. Only these are ever captured or restored. */
  readonly files: readonly string[];
  /**
   * Where true copies go: `repository` into an encrypted repository (sealed instead where the destination is not
   * encrypted and there are recipients), `sealed` into `sealed.age`, `redact-only` nowhere.
   */
  readonly secrets: 'repository' | 'sealed' | 'redact-only';
  /** `age1…`, as `age-keygen` prints them. */
  readonly ageRecipients: readonly string[];
  /** Needed to restore sealed files. */
  readonly ageIdentityFile: string | undefined;
  /** Secrets known from elsewhere, such as the repository's password; redacted wherever they stand. */
  readonly knownSecrets: readonly string[];
  /** What runs knows more than the files say; absent where nothing does. */
  readonly derived?: DerivedSource;
}

/** Configuration files with secrets in them (DESIGN.md section 11). */
export function createConfigComponent(given: ConfigOptions): Component {
  const options = { ...given, files: [...new Set(given.files.map((path) => normalize(path)))] };
  const { name, files, ageIdentityFile, derived } = options;
  const place = { name, kind, files, ageIdentityFile, derived };
  const all = [...files, ...derivedPaths(files, derived)];
  return {
    name,
    kind,
    service: undefined,
    probe: () => probe(options),
    places: () => Promise.resolve(files.map((tree) => ({ tree }))),
    leftovers: () => leftoversAt(all),
    // There is no server: files are always ready.
    ready: () => Promise.resolve(),
    async prepare(ctx) {
      await requireOptions(options);
      return prepareConfigCapture({ ...options, derived }, await readDerived(derived, ctx));
    },
    planRestore: async (from, restoreOptions, ctx, source) =>
      singleUse(await planConfigRestore(place, from, restoreOptions, source, ctx), (...stage) =>
        stageConfigRestore(place, ...stage),
      ),
    removeStaged: (restoreId) => removeStaged(all, restoreId),
    generation: configGeneration,
    verify: (from, ctx) => verifyConfig(files, from, ctx.signal),
  };
}

async function requireOptions({ name, files, secrets, ageRecipients }: ConfigOptions): Promise<void> {
  const relative = files.find((path) => !isAbsolute(path));
  if (relative !== undefined) throw new ConfigurationError(`${name}: ${relative} is not an absolute path`);
  await requireRecipients(ageRecipients);
  if (secrets === 'sealed' && ageRecipients.length === 0) {
    throw new ConfigurationError(`${name}: secrets is set to sealed and there are no age recipients`, {
      hint: 'Give age_recipients in tars.yaml, or set secrets to repository or redact-only.',
    });
  }
}

async function probe(options: ConfigOptions): Promise<ComponentProbe> {
  const warnings: string[] = [];
  let sizeBytes = 0;
  for (const path of options.files) {
    try {
      sizeBytes += (await stat(path)).size;
    } catch (error) {
      warnings.push(toTarsError(error, `Cannot access ${path}`).message);
    }
  }
  if (options.secrets === 'redact-only')
    warnings.push('True copies are not kept (secrets: redact-only): a restore cannot bring these files back');
  return {
    serverVersion: undefined,
    sizeBytes,
    summary: counted(options.files.length, 'file'),
    warnings,
  };
}
