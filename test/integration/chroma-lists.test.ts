import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { prepareLogicalCapture } from '../../src/components/chroma/http/capture.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Staged } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { chromaBuild, isChromaHere, killChroma, ownVersion } from '../fixtures/chroma-builds.ts';
import { chromaOverHttp } from '../fixtures/chroma-component.ts';
import { createCollection, defaultPath, manifestOf, RawChroma } from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const here = isCampaign || isChromaHere('1.3.4');
const skip = here ? false : 'no Chroma 1.3 here; a campaign fetches it';

async function captured(url: string, directory: string): Promise<ComponentManifest> {
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url }, ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const sink = createDirectorySink(directory, { encrypted: true });
  return manifestOf('chroma', await prepared.capture(sink, ctx), sink);
}

async function staged(manifest: ComponentManifest, directory: string, url: string): Promise<Staged> {
  const options = { restoreConfig: false, restoreId: 'r1' };
  const planned = await chromaOverHttp(url).planRestore(manifest, options, ctx, noArtifacts);
  return planned.stage(createDirectorySource(directory), ctx);
}

test(
  'lists in metadata come back on 1.3, and a 1.0 server is named that does not take them',
  { skip },
  async (t) => {
    const build = await chromaBuild('1.3.4');
    if (build === undefined) {
      t.skip('Chroma 1.3 does not run here');
      return;
    }
    const root = await mkdtemp(join(tmpdir(), 'tars-chroma-'));
    const servers: PrivateChroma[] = [];
    const started = async (name: string, version: typeof build | undefined): Promise<PrivateChroma> => {
      await mkdir(join(root, name));
      const server = await startChroma(join(root, name), ctx, undefined, version);
      servers.push(server);
      return server;
    };
    try {
      const [newer, fresh, older] = await Promise.all([
        started('newer', build),
        started('fresh', build),
        started('older', await chromaBuild(ownVersion)),
      ]);
      const raw = new RawChroma(newer.url);
      const at = await createCollection(raw, defaultPath, JSON.stringify({ name: 'tagged' }));
      await raw.json('POST', `${at}/add`, {
        ids: ['a', 'b'],
        embeddings: [
          [1, 2],
          [3, 4],
        ],
        metadatas: [{ tags: ['x', 'y'], sizes: [1, 2], ratios: [0.5], flags: [true] }, { plain: 1 }],
      });
      const directory = join(root, 'artifacts');
      const manifest = await captured(newer.url, directory);

      const again = await staged(manifest, directory, fresh.url);
      assert.deepEqual(await again.verify(ctx), []);
      await again.swap(ctx);

      await assert.rejects(
        staged(manifest, directory, older.url),
        (error) =>
          error instanceof TarsError &&
          error.code === 'unsupported-version' &&
          /^Collection default_tenant\/default_database\/tagged has lists in its metadata, and Chroma at http:\S+ does not accept them$/.test(
            error.message,
          ),
      );
      const left = await new RawChroma(older.url).json<unknown[]>('GET', `${defaultPath}/collections`);
      assert.deepEqual(left, []);
    } finally {
      for (const server of servers) await killChroma(server);
      await rm(root, { recursive: true, force: true });
    }
  },
);
