import { readFile } from 'node:fs/promises';
import type { Decrypter, Encrypter } from 'age-encryption';
import { extract, pack } from 'tar-stream';
import {
  ConfigurationError,
  CorruptionError,
  InterruptedError,
  RestoreRefusedError,
  toTarsError,
} from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import { configBytesMax, pathInSnapshot, type ConfigFile } from './files.ts';

/** Sealed bytes may be larger than their content by tar headers, padding, armour and age's own. */
const sealedBytesMax = 4 * configBytesMax;

/** Loaded only where something is sealed: its curves are large. */
const loadAge = () => import('age-encryption');

async function encrypterFor(recipients: readonly string[]): Promise<Encrypter> {
  const encrypter = new (await loadAge()).Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      throw new ConfigurationError(`${recipient} is not an age recipient`, {
        hint: 'Give recipients as age-keygen prints them: age1…',
        cause,
      });
    }
  }
  return encrypter;
}

/** Tries the recipients out on nothing. @throws ConfigurationError when one of them is no age recipient */
export async function requireRecipients(recipients: readonly string[]): Promise<void> {
  if (recipients.length > 0) await (await encrypterFor(recipients)).encrypt('');
}

/**
 * The files as a tar inside an age file (age-encryption.org/v1): `age -d -i KEY sealed.age | tar -xC /` brings them
 * back without us.
 */
export async function seal(files: readonly ConfigFile[], recipients: readonly string[]): Promise<Uint8Array> {
  const archive = pack();
  for (const { path, bytes, attributes } of files) {
    archive.entry(
      {
        name: pathInSnapshot(path),
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: new Date(Number(attributes.mtimeNs / 1_000_000n)),
      },
      Buffer.from(bytes),
    );
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return (await encrypterFor(recipients)).encrypt(Buffer.concat(chunks));
}

/** What a sealed archive holds, by path without the leading slash. */
type Unsealed = ReadonlyMap<string, Uint8Array>;

/**
 * Opens a sealed archive, binary or armoured, ours or one made by `tar | age`.
 * @throws RestoreRefusedError when the identity file cannot be read or does not fit
 * @throws CorruptionError when the bytes are damaged
 */
export async function unseal(body: Bytes, identityFile: string, what: string): Promise<Unsealed> {
  const decrypter = await decrypterFor(identityFile);
  const sealed = await collect(body, what);
  const begin = Buffer.from(sealed.subarray(0, 64)).toString('latin1');
  let plain: Uint8Array;
  try {
    const { armor } = await loadAge();
    const armoured = begin.trimStart().startsWith('-----BEGIN AGE');
    plain = await decrypter.decrypt(armoured ? armor.decode(Buffer.from(sealed).toString('latin1')) : sealed);
  } catch (cause) {
    if (cause instanceof Error && /no identity matched/.test(cause.message)) {
      throw new RestoreRefusedError(`Cannot open ${what}: no identity in ${identityFile} opens it`, {
        hint: 'Give the identity whose recipient was configured when the backup was made.',
        cause,
      });
    }
    throw new CorruptionError(`Cannot open ${what}: it is damaged or is not an age file`, { cause });
  }
  return entriesOf(plain, what);
}

async function decrypterFor(identityFile: string): Promise<Decrypter> {
  let text: string;
  try {
    text = await readFile(identityFile, 'utf8');
  } catch (cause) {
    throw new RestoreRefusedError(
      toTarsError(cause, `Cannot read the age identity ${identityFile}`).message,
      {
        hint: 'Set age_identity_file in tars.yaml to the file that age-keygen wrote.',
        cause,
      },
    );
  }
  const decrypter = new (await loadAge()).Decrypter();
  const lines = text.split('\n').map((line) => line.trim());
  const identities = lines.filter((line) => line !== '' && !line.startsWith('#'));
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
    if (identities.length === 0) throw new Error('it is empty');
  } catch {
    // The cause would quote the line, which may be a key.
    throw new RestoreRefusedError(`${identityFile} does not hold age identities`, {
      hint: 'It must hold lines AGE-SECRET-KEY-1…; decrypt a passphrase-protected identity first.',
    });
  }
  return decrypter;
}

async function collect(body: Bytes, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > sealedBytesMax)
      throw new CorruptionError(`Cannot open ${what}: it has more than ${sealedBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function entriesOf(tar: Uint8Array, what: string): Promise<Unsealed> {
  const entries = new Map<string, Uint8Array>();
  const extractor = extract();
  extractor.end(Buffer.from(tar));
  try {
    for await (const entry of extractor) {
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      const name = entry.header.name.replace(/^(?:\.?\/)+/, '');
      if (entry.header.type === 'file') entries.set(name, Buffer.concat(chunks));
    }
  } catch (cause) {
    if (cause instanceof InterruptedError) throw cause;
    throw new CorruptionError(`Cannot open ${what}: the tar inside is damaged`, { cause });
  }
  return entries;
}
