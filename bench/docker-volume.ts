/**
 * How fast a volume is captured, beside `docker run … tar`. Run as root where an Engine is:
 * `node bench/docker-volume.ts [megabytes] [rounds]`. The volume is that of the model store, whose blobs do not
 * compress; each capture is a first one, into a new repository or archive on this machine's disk.
 */
import { execa } from 'execa';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { addModel } from '../test/fixtures/bulk-stack.ts';
import { dockerForTests } from '../test/fixtures/docker/engine.ts';
import { startProject, type StartedProject } from '../test/fixtures/docker/project.ts';
import { tarsOn } from '../test/fixtures/docker/tars-on.ts';

const megabytes = Number(process.argv[2] ?? 1000);
const rounds = Number(process.argv[3] ?? 3);
const seed = 2024;
const image = 'ollama/ollama:tars-test';

/** Seconds that `work` takes, after what others wrote is on the disk. */
async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  await execa('sync');
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

/** As Docker's own manual backs a volume up (https://docs.docker.com/engine/storage/volumes/). */
async function tarred(project: StartedProject, volume: string): Promise<number> {
  const places = ['-v', `${volume}:/volume:ro`, '-v', `${project.directory}:/archive`];
  const run = ['run', '--rm', '--network', 'none', ...places, '--entrypoint', 'tar', image];
  const archive = join(project.directory, 'volume.tar');
  const seconds = await secondsOf(async () => {
    await project.docker(...run, '-C', '/volume', '-cf', '/archive/volume.tar', '.');
    // As durable as a repository is.
    await execa('sync', [archive]);
  });
  await rm(archive);
  return seconds;
}

async function captured(project: StartedProject, unprivileged: boolean): Promise<number> {
  const { service } = project.layout.ollama;
  const settings = { components: { ollama: { service, models: 'all' } }, services: {} };
  await using tars = await tarsOn(project, { compose: undefined, unprivileged, settings });
  return await secondsOf(() => tars.ok(['backup']));
}

const { engine } = await dockerForTests();
await using project = await startProject({
  ...{ engine, prefix: 'bench-', composeVersion: 'v2', file: 'tars-home' },
});
await project.compose('stop', 'backend');
const volume = `${project.name}_ollama_data`;
const place = await project.docker('volume', 'inspect', '--format', '{{.Mountpoint}}', volume);
await addModel(join(place, 'models'), 'bulk', megabytes * 1e6, seed);

const contestants = {
  'docker run … tar': () => tarred(project, volume),
  'tars, by its path': () => captured(project, false),
  'tars, through the Engine': () => captured(project, true),
};
const seconds = new Map<string, number[]>(Object.keys(contestants).map((name) => [name, []]));
for (let round = 0; round < rounds; round++)
  for (const [name, run] of Object.entries(contestants)) seconds.get(name)?.push(await run());

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const tarSeconds = median(seconds.get('docker run … tar') ?? []);
console.table(
  Object.fromEntries(
    [...seconds].map(([name, all]) => [
      name,
      {
        'wall s': all.map((value) => value.toFixed(1)).join(' '),
        'MB/s, median': Math.round(megabytes / median(all)),
        'wall, ratio to tar': Number((median(all) / tarSeconds).toFixed(2)),
      },
    ]),
  ),
);
