import { z } from 'zod';
import { decodeLossless, encodeLossless } from '../../model/byte-text.ts';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import type { ExtendedAttribute } from '../../ports/artifacts.ts';
import { encodeGoJson, parseJson64, type GoJsonValue } from './go-json.ts';
import { goQuote, goUnquote } from './go-quote.ts';
import { formatGoTime, parseGoTime } from './go-time.ts';

/** restic's node types. */
export type NodeType = 'file' | 'dir' | 'symlink' | 'dev' | 'chardev' | 'fifo' | 'socket' | 'irregular' | '';

/** One entry of a directory. Members of restic that tars has no use for, such as attributes of Windows, are read over. */
export interface TreeNode {
  /** Bytes that are not UTF-8 stand as lone surrogates (see model/byte-text.ts). */
  readonly name: string;
  readonly type: NodeType;
  /** Permission bits with setuid, setgid and sticky, as in `stat` (not Go's layout). */
  readonly mode: number;
  readonly mtimeNs: bigint;
  readonly atimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly uid: number;
  readonly gid: number;
  readonly user?: string;
  readonly group?: string;
  readonly inode?: bigint;
  readonly deviceId?: bigint;
  readonly sizeBytes?: number;
  readonly links?: number;
  readonly linkTarget?: string;
  readonly extended?: readonly ExtendedAttribute[];
  /** `st_rdev` of a device. */
  readonly device?: bigint;
  /** Blobs of a file, 32 bytes each one after another; undefined for other types. */
  readonly content?: Buffer;
  /** The tree of a directory, 64 hex digits. */
  readonly subtree?: string;
}

/** Go's `os.FileMode` bits (https://pkg.go.dev/io/fs#FileMode) beside the nine permission bits. */
const goSetuid = 2 ** 23;
const goSetgid = 2 ** 22;
const goSticky = 2 ** 20;
const goTypeBits: Readonly<Record<NodeType, number>> = {
  file: 0,
  dir: 2 ** 31,
  symlink: 2 ** 27,
  dev: 2 ** 26,
  chardev: 2 ** 26 + 2 ** 21,
  fifo: 2 ** 25,
  socket: 2 ** 24,
  irregular: 2 ** 19,
  '': 0,
};

/**
 * JSON has no bytes, and restic keeps the names of extended attributes as text. Where one is not UTF-8, all names of the
 * node are here once more, in base64: restic copies generic attributes that it does not know.
 */
const rawNamesMember = 'tars.extended_attribute_names';

const idSchema = z.string().regex(/^[0-9a-f]{64}$/);
const integerSchema = z.union([z.number().int(), z.bigint()]);
const nodeSchema = z.object({
  name: z.string(),
  type: z.enum(['file', 'dir', 'symlink', 'dev', 'chardev', 'fifo', 'socket', 'irregular', '']),
  mode: z.number().int().default(0),
  mtime: z.string(),
  atime: z.string(),
  ctime: z.string(),
  uid: z.number().int().default(0),
  gid: z.number().int().default(0),
  user: z.string().optional(),
  group: z.string().optional(),
  inode: integerSchema.optional(),
  device_id: integerSchema.optional(),
  size: integerSchema.optional(),
  links: integerSchema.optional(),
  linktarget: z.string().optional(),
  linktarget_raw: z.base64().optional(),
  extended_attributes: z.array(z.object({ name: z.string(), value: z.base64().nullish() })).nullish(),
  generic_attributes: z.object({ [rawNamesMember]: z.array(z.base64()).optional() }).nullish(),
  device: integerSchema.optional(),
  content: z.array(z.string()).nullish(),
  subtree: idSchema.optional(),
});
const treeSchema = z.object({ nodes: z.array(nodeSchema).nullable() });
type StoredNode = z.infer<typeof nodeSchema>;

/**
 * A tree is parsed as one text, and that is how long one can be: a million entries of a directory, more or less. restic
 * parses it as a whole too.
 */
const treeMaxBytes = 500 << 20;

/**
 * The plaintext of a tree blob. Nodes are sorted by the bytes of their names, as restic requires.
 * @throws TarsError `capture-failed` when it is larger than {@link decodeTree} takes
 */
export function encodeTree(nodes: readonly TreeNode[]): Buffer {
  const named = nodes.map((node) => ({ node, bytes: encodeLossless(node.name) }));
  named.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
  const parts: Buffer[] = [];
  let lengthBytes = 0;
  for (const [i, { node }] of named.entries()) {
    const part = Buffer.from(`${i === 0 ? '{"nodes":[' : ','}${encodeNode(node)}`);
    lengthBytes += part.length;
    if (lengthBytes > treeMaxBytes) throw treeTooLarge(nodes);
    parts.push(part);
  }
  return Buffer.concat([...parts, Buffer.from(parts.length === 0 ? '{"nodes":[]}\n' : ']}\n')]);
}

function treeTooLarge(nodes: readonly TreeNode[]): TarsError {
  return new TarsError(
    'capture-failed',
    `A directory with ${nodes.length} entries, such as ${nodes[0]?.name ?? ''}, takes more than ${treeMaxBytes} bytes in a snapshot`,
    { hint: 'Spread its entries over several directories, or exclude it.' },
  );
}

/** Members in the order of restic's struct (`internal/data/node.go`), zero values left out where it does. */
function encodeNode(node: TreeNode): string {
  const head = encodeGoJson({
    name: goQuote(node.name),
    type: node.type,
    mode: toGoMode(node.type, node.mode) || undefined,
    mtime: formatGoTime(node.mtimeNs),
    atime: formatGoTime(node.atimeNs),
    ctime: formatGoTime(node.ctimeNs),
    uid: node.uid,
    gid: node.gid,
    user: node.user || undefined,
    group: node.group || undefined,
    inode: node.inode || undefined,
    device_id: node.deviceId || undefined,
    size: node.sizeBytes || undefined,
    links: node.links || undefined,
    ...encodeLinkTarget(node.linkTarget),
    ...encodeExtended(node.extended ?? []),
    device: node.device || undefined,
  });
  const content = node.content === undefined ? 'null' : encodeContent(node.content);
  const subtree = node.subtree === undefined ? '' : `,"subtree":"${node.subtree}"`;
  return `${head.slice(0, -1)},"content":${content}${subtree}}`;
}

function encodeLinkTarget(target: string | undefined): { linktarget?: string; linktarget_raw?: string } {
  if (target === undefined || target === '') return {};
  if (target.isWellFormed()) return { linktarget: target };
  // Go's encoder puts `\ufffd` for each byte that is not UTF-8; the raw member carries the truth.
  return { linktarget: target, linktarget_raw: encodeLossless(target).toString('base64') };
}

function encodeExtended(attributes: readonly ExtendedAttribute[]): {
  readonly extended_attributes?: GoJsonValue;
  readonly generic_attributes?: GoJsonValue;
} {
  if (attributes.length === 0) return {};
  // Go decodes its own `\ufffd` to U+FFFD and writes that as it is: only so do the bytes stay the same in a rewrite.
  const members = attributes.map(({ name, value }) => ({ name: name.toWellFormed(), value: base64(value) }));
  if (attributes.every(({ name }) => name.isWellFormed())) return { extended_attributes: members };
  const raw = attributes.map(({ name }) => base64(encodeLossless(name)));
  return { extended_attributes: members, generic_attributes: { [rawNamesMember]: raw } };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function encodeContent(content: Buffer): string {
  return `[${splitIds(content)
    .map((id) => `"${id}"`)
    .join(',')}]`;
}

/** The 64-digit ids in a node's `content`. */
function splitIds(content: Buffer): string[] {
  const ids: string[] = [];
  for (let at = 0; at < content.length; at += 32) ids.push(content.toString('hex', at, at + 32));
  return ids;
}

/** @throws CorruptionError when it is no tree */
export function decodeTree(plaintext: Uint8Array, name: string): TreeNode[] {
  let stored: StoredNode[];
  if (plaintext.length > treeMaxBytes) {
    throw new CorruptionError(`Tree ${name} has ${plaintext.length} bytes, more than ${treeMaxBytes}`);
  }
  try {
    stored = treeSchema.parse(parseJson64(Buffer.from(plaintext).toString('utf8'))).nodes ?? [];
  } catch (cause) {
    throw new CorruptionError(`Tree ${name} is not valid`, { cause });
  }
  return stored.map((node) => decodeNode(node, name));
}

function decodeNode(node: StoredNode, tree: string): TreeNode {
  const linkTarget =
    node.linktarget_raw === undefined
      ? node.linktarget
      : decodeLossless(Buffer.from(node.linktarget_raw, 'base64'));
  return {
    name: goUnquote(node.name),
    type: node.type,
    mode: fromGoMode(node.mode),
    mtimeNs: parseGoTime(node.mtime),
    atimeNs: parseGoTime(node.atime),
    ctimeNs: parseGoTime(node.ctime),
    uid: node.uid,
    gid: node.gid,
    ...(node.user === undefined ? {} : { user: node.user }),
    ...(node.group === undefined ? {} : { group: node.group }),
    ...(node.inode === undefined ? {} : { inode: BigInt(node.inode) }),
    ...(node.device_id === undefined ? {} : { deviceId: BigInt(node.device_id) }),
    ...(node.size === undefined ? {} : { sizeBytes: Number(node.size) }),
    ...(node.links === undefined ? {} : { links: Number(node.links) }),
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...decodeExtended(node),
    ...(node.device === undefined ? {} : { device: BigInt(node.device) }),
    ...(node.content == null ? {} : { content: decodeContent(node.content, tree) }),
    ...(node.subtree === undefined ? {} : { subtree: node.subtree }),
  };
}

function decodeExtended(node: StoredNode): Pick<TreeNode, 'extended'> {
  if (!node.extended_attributes?.length) return {};
  const raw = node.generic_attributes?.[rawNamesMember];
  const extended = node.extended_attributes.map(({ name, value }, i) => ({
    name: raw?.[i] === undefined ? name : decodeLossless(Buffer.from(raw[i], 'base64')),
    value: Buffer.from(value ?? '', 'base64'),
  }));
  return { extended };
}

/**
 * What would make it unsafe to restore these nodes of one directory; empty for every tree an honest program writes.
 * Names come from whoever has the password: none may lead elsewhere, stand for two things, or lie below a link.
 */
export function treeProblems(nodes: readonly TreeNode[]): string[] {
  const names = new Set<string>();
  return nodes.flatMap((node) => {
    const quoted = JSON.stringify(node.name);
    const bytes = encodeLossless(node.name).toString('latin1');
    if (['', '.', '..'].includes(node.name) || /[/\0]/.test(node.name)) {
      return [`${quoted} is not a valid file name`];
    }
    if (names.has(bytes)) return [`the name ${quoted} appears twice`];
    names.add(bytes);
    if (node.type === 'dir' && node.subtree === undefined) return [`directory ${quoted} has no tree`];
    if (node.type !== 'dir' && node.subtree !== undefined)
      return [`${quoted} is not a directory but has a tree`];
    return [];
  });
}

function decodeContent(ids: readonly string[], tree: string): Buffer {
  const content = Buffer.alloc(ids.length * 32);
  ids.forEach((id, i) => {
    if (id.length !== 64 || content.write(id, i * 32, 'hex') !== 32) {
      throw new CorruptionError(`Tree ${tree} refers to the blob "${id}", which is not an id`);
    }
  });
  return content;
}

/** `stat` permission bits to Go's `os.FileMode`. */
function toGoMode(type: NodeType, mode: number): number {
  return (
    (mode & 0o777) +
    ((mode & 0o4000) === 0 ? 0 : goSetuid) +
    ((mode & 0o2000) === 0 ? 0 : goSetgid) +
    ((mode & 0o1000) === 0 ? 0 : goSticky) +
    goTypeBits[type]
  );
}

function fromGoMode(goMode: number): number {
  return (
    (goMode & 0o777) |
    ((goMode & goSetuid) === 0 ? 0 : 0o4000) |
    ((goMode & goSetgid) === 0 ? 0 : 0o2000) |
    ((goMode & goSticky) === 0 ? 0 : 0o1000)
  );
}
