import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { testContext } from '../../../test/fixtures/context.ts';
import { MemoryStorage } from '../../../test/fixtures/storage.ts';
import { BlobIndex } from '../blobs/blob-index.ts';
import { loadBlobIndex } from '../blobs/load-index.ts';
import { type OpenedRepository } from '../open.ts';
import { createWithCheapKey } from '../../../test/fixtures/cheap-key.ts';
import type { FinishedPack } from './pack-builder.ts';
import { PendingIndex } from './pending-index.ts';

const packBytes = 16 << 20;
const { signal } = new AbortController();

/** A pack of one blob; the pending index never reads the file itself. */
function packNumber(number: number): FinishedPack {
  const id = createHash('sha256').update(`pack ${number}`).digest('hex');
  const blobId = createHash('sha256').update(`blob ${number}`).digest('hex');
  const blob = {
    type: 'data',
    offsetBytes: 0,
    lengthBytes: packBytes - 100,
    uncompressedBytes: undefined,
  } as const;
  return { id, blobs: [{ id: blobId, ...blob }], lengthBytes: packBytes };
}

async function newRepository(): Promise<{ repository: OpenedRepository; indexFiles: () => number }> {
  const storage = new MemoryStorage();
  const repository = await createWithCheapKey(storage, 'correct-horse', testContext());
  const indexFiles = (): number => [...storage.files.keys()].filter((key) => key.startsWith('index/')).length;
  return { repository, indexFiles };
}

describe('pending index', () => {
  it('is written after 256 MiB of large blobs, of which there are few', async () => {
    const { repository, indexFiles } = await newRepository();
    const pending = new PendingIndex(repository, new BlobIndex(), testContext().clock);
    for (let number = 0; number < 15; number++) await pending.add(packNumber(number), signal);
    assert.equal(indexFiles(), 0);
    await pending.add(packNumber(15), signal);
    assert.equal(indexFiles(), 1);
    assert.equal((await loadBlobIndex(repository, testContext())).size, 16);
  });

  it('begins no further file for what arrives while one is written', async () => {
    const { repository, indexFiles } = await newRepository();
    const writing = Promise.withResolvers<undefined>();
    const proceed = Promise.withResolvers<undefined>();
    const slow: OpenedRepository = {
      ...repository,
      async saveUnpacked(...args) {
        writing.resolve(undefined);
        await proceed.promise;
        return repository.saveUnpacked(...args);
      },
    };
    const pending = new PendingIndex(slow, new BlobIndex(), testContext().clock);
    const first = Promise.all(
      Array.from({ length: 16 }, (_, number) => pending.add(packNumber(number), signal)),
    );
    await writing.promise;
    const meanwhile = Promise.all(
      Array.from({ length: 15 }, (_, number) => pending.add(packNumber(16 + number), signal)),
    );
    proceed.resolve(undefined);
    await Promise.all([first, meanwhile]);
    assert.equal(indexFiles(), 1);
    await pending.save(signal);
    assert.equal(indexFiles(), 2);
    assert.equal((await loadBlobIndex(repository, testContext())).size, 31);
  });

  it('needs few files for a terabyte', async () => {
    const { repository, indexFiles } = await newRepository();
    const pending = new PendingIndex(repository, new BlobIndex(), testContext().clock);
    for (let number = 0; number < 65_536; number++) await pending.add(packNumber(number), signal);
    await pending.save(signal);
    const files = indexFiles();
    assert.ok(files < 100, `${files} index files`);
    assert.equal((await loadBlobIndex(repository, testContext())).size, 65_536);
  });

  it('is written after five minutes, however little there is', async () => {
    const { repository, indexFiles } = await newRepository();
    let nowMs = 0;
    const clock = { ...testContext().clock, monotonicMs: () => nowMs };
    const pending = new PendingIndex(repository, new BlobIndex(), clock);
    await pending.add(packNumber(0), signal);
    assert.equal(indexFiles(), 0);
    nowMs = 5 * 60_000;
    await pending.add(packNumber(1), signal);
    assert.equal(indexFiles(), 1);
    await pending.add(packNumber(2), signal);
    assert.equal(indexFiles(), 1, 'the five minutes begin anew');
  });
});
