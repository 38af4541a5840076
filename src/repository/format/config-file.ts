import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import { encodeGoJson } from './go-json.ts';
import { isIrreducible, randomIrreducible } from './polynomial.ts';

/** What `config` holds; never compressed (restic `doc/design.rst`, "Repository Format"). */
export interface RepositoryConfig {
  /** 2 for what this build creates; 1 is read and written too, without compression. */
  readonly version: number;
  /** 64 hex digits. */
  readonly id: string;
  /** Secret and irreducible over GF(2), of degree 53; how chunks are cut follows from it. */
  readonly chunkerPolynomial: bigint;
}

const configSchema = z.object({
  version: z.number().int(),
  id: z.string().regex(/^[0-9a-f]{64}$/),
  chunker_polynomial: z.string().regex(/^[0-9a-f]{1,16}$/),
});

/** A config of format version 2 with a random id and polynomial, for a repository that is being created. */
export function newConfig(): RepositoryConfig {
  return { version: 2, id: randomBytes(32).toString('hex'), chunkerPolynomial: randomIrreducible() };
}

/** The JSON of the `config` file, before it is sealed: restic `doc/design.rst`, "Repository Layout". */
export function encodeConfig(config: RepositoryConfig): Buffer {
  return Buffer.from(
    encodeGoJson({
      version: config.version,
      id: config.id,
      chunker_polynomial: config.chunkerPolynomial.toString(16),
    }),
  );
}

/**
 * @throws CorruptionError when it is no configuration or the polynomial is reducible (restic would refuse it too)
 * @throws TarsError `unsupported-version`
 */
export function decodeConfig(plaintext: Uint8Array): RepositoryConfig {
  let parsed: z.infer<typeof configSchema>;
  try {
    parsed = configSchema.parse(JSON.parse(Buffer.from(plaintext).toString('utf8')));
  } catch (cause) {
    throw new CorruptionError('The repository configuration is not valid', { cause });
  }
  if (parsed.version < 1 || parsed.version > 2) {
    throw new TarsError(
      'unsupported-version',
      `The repository has format version ${parsed.version}, this tars reads versions 1 and 2`,
      { hint: 'Use a newer tars.' },
    );
  }
  const chunkerPolynomial = BigInt(`0x${parsed.chunker_polynomial}`);
  if (!isIrreducible(chunkerPolynomial)) {
    throw new CorruptionError('The chunker polynomial of the repository is reducible');
  }
  return { version: parsed.version, id: parsed.id, chunkerPolynomial };
}
