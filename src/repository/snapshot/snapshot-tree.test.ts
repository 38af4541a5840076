import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { BlobReader } from '../blobs/blob-reader.ts';
import { encodeTree, type TreeNode } from '../format/tree.ts';
import type { NamedSnapshot } from './snapshot-list.ts';
import { SnapshotTree } from './snapshot-tree.ts';

const never = new AbortController().signal;
const common = { mode: 0o644, mtimeNs: 1n, atimeNs: 1n, ctimeNs: 1n, uid: 0, gid: 0 };

/** Trees by their id; how often each is read is counted. */
class Trees {
  reads = 0;
  readonly #blobs = new Map<string, Buffer>();

  put(nodes: readonly TreeNode[]): string {
    const blob = encodeTree(nodes);
    const id = createHash('sha256').update(blob).digest('hex');
    this.#blobs.set(id, blob);
    return id;
  }

  under(root: string): SnapshotTree {
    const read = (id: Uint8Array): Promise<Buffer> => {
      this.reads++;
      return Promise.resolve(this.#blobs.get(Buffer.from(id).toString('hex')) ?? Buffer.alloc(0));
    };
    const stack = this.put([directory('lab', root)]);
    const file = { tree: this.put([directory('tars', stack)]), paths: ['/tars/lab'] };
    return new SnapshotTree({ read } as unknown as BlobReader, { id: '', file } as unknown as NamedSnapshot);
  }
}

const file = (name: string): TreeNode => ({ ...common, name, type: 'file', content: Buffer.alloc(0) });
const directory = (name: string, subtree: string): TreeNode => ({ ...common, name, type: 'dir', subtree });

test('each directory is loaded once by who looks up its files one after the other, however deep', async () => {
  const trees = new Trees();
  const depth = 40;
  const leaves = Array.from({ length: 60 }, (_, i) => `leaf${i}`);
  const leafNodes = leaves.map((name) => directory(name, trees.put([file(`${name}-a`), file(`${name}-b`)])));
  let id = trees.put(leafNodes);
  for (let level = 0; level < depth; level++) id = trees.put([directory('d', id)]);
  const tree = trees.under(id);
  for (const leaf of leaves) {
    for (const name of [`${leaf}-a`, `${leaf}-b`, 'missing']) {
      const found = await tree.find(`${'d/'.repeat(depth)}${leaf}/${name}`, never);
      assert.equal(found?.name, name === 'missing' ? undefined : name);
    }
  }
  assert.equal(trees.reads, 2 + depth + 1 + leaves.length);
});

test('a directory that is larger than all that is kept stays while it is worked on', async () => {
  const trees = new Trees();
  const leaves = Array.from({ length: 30 }, (_, i) => directory(`d${i}`, trees.put([file(`f${i}`)])));
  const wide = Array.from({ length: 20_000 }, (_, i) => file(`${i}${'x'.repeat(240)}`));
  const tree = trees.under(trees.put([...leaves, ...wide]));
  for (const [i, { name }] of leaves.entries()) {
    assert.equal((await tree.find(`${name}/f${i}`, never))?.type, 'file');
  }
  assert.equal(trees.reads, 2 + 1 + leaves.length);
});
