import { basename, dirname, posix } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../../../model/errors.ts';
import type { ArtifactSink, Bytes } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { ownAttributes } from '../../paths/own-attributes.ts';
import type { PostgresFacts } from '../facts.ts';
import { sqlState, type Session } from './session.ts';

/** A configuration file of the server. */
interface ServerFile {
  readonly path: string;
  readonly content: Buffer;
}

/** Files the server was configured with, or why they cannot be read. */
export type ServerFiles = readonly ServerFile[] | { readonly unread: string };

/** Nobody writes more by hand: what is longer is left out. */
const fileLimitBytes = 1 << 20;

/** Those that settings came from, and those of authentication. */
const pathsQuery = `
SELECT path FROM (
  SELECT sourcefile AS path FROM pg_catalog.pg_file_settings
  UNION SELECT pg_catalog.current_setting('config_file')
  UNION SELECT pg_catalog.current_setting('hba_file')
  UNION SELECT pg_catalog.current_setting('ident_file')) AS files
WHERE path IS NOT NULL ORDER BY path COLLATE "C"`;

const contentQuery = `
SELECT pg_catalog.encode(pg_catalog.pg_read_binary_file($1, 0, ${fileLimitBytes + 1}, true), 'base64') AS content`;

/** Reads them through the server, wherever it runs. Outside a transaction: a refusal would end that. */
export async function readServerFiles(session: Session, signal: AbortSignal): Promise<ServerFiles> {
  try {
    const files: ServerFile[] = [];
    for (const { path } of await session.rows(z.object({ path: z.string() }), pathsQuery, signal)) {
      const row = z.object({ content: z.string().nullable() });
      const { content } = await session.row(row, contentQuery, signal, [path]);
      const bytes = Buffer.from(content ?? '', 'base64');
      if (content !== null && bytes.length <= fileLimitBytes) files.push({ path, content: bytes });
    }
    return files;
  } catch (error) {
    // Most users may not; no reason of any kind keeps the databases from being dumped.
    if (sqlState(error) === undefined || signal.aborted) throw error;
    return { unread: messageOf(error) };
  }
}

/** One sentence for warnings; undefined when the files were read. */
export const unreadFiles = (files: ServerFiles): string | undefined =>
  'unread' in files
    ? `pg_hba.conf and the settings of the server are not captured: ${files.unread}. A superuser may read them`
    : undefined;

/** Stores them beside the dumps. They may hold passwords, which an archive in the clear does not get. */
export async function captureServerFiles(
  files: ServerFiles,
  component: string,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<Pick<PostgresFacts, 'serverFiles'>> {
  if ('unread' in files || !sink.encrypted) return {};
  const serverFiles: { path: string; artifact: string }[] = [];
  const taken = new Set<string>();
  for (const { path, content } of files) {
    const artifact = `${component}/server/${freeName(path, taken)}`;
    await sink.write(artifact, bytesOf(content), {
      attributes: ownAttributes(ctx),
      chunking: 'small',
      sizeBytes: content.length,
      signal: ctx.signal,
    });
    serverFiles.push({ path, artifact });
  }
  return { serverFiles };
}

/** `pg_hba.conf`; of a second file of that name its directory, too. */
function freeName(path: string, taken: Set<string>): string {
  const file = basename(path);
  const within = posix.join(basename(dirname(path)), file);
  const names = [file, within, ...Array.from({ length: taken.size + 1 }, (_, i) => `${i + 2}-${file}`)];
  const name = names.find((each) => !taken.has(each)) ?? file;
  taken.add(name);
  return name;
}

// eslint-disable-next-line @typescript-eslint/require-await
async function* bytesOf(bytes: Uint8Array): Bytes {
  yield bytes;
}
