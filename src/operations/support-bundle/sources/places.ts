import { readFile, realpath, stat } from 'node:fs/promises';
import { toTarsError } from '../../../model/errors.ts';
import { nearestExisting, spaceAt } from '../../../disk/space.ts';
import { report, type SupportSource } from '../source.ts';

/** Free space, owner, mode and mount of the places that tars uses. */
export const placesSource = (places: Readonly<Record<string, string>>): SupportSource => ({
  name: 'places',
  async collect() {
    const mounts = parseMounts(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
    const entries = Object.entries(places).map(([what, path]) => describePlace(what, path, mounts));
    return { files: [report('places.json', 'statfs and /proc/self/mountinfo', await Promise.all(entries))] };
  },
});

interface Mount {
  readonly point: string;
  readonly type: string;
  readonly options: string;
}

/** proc_pid_mountinfo(5): the mount point is the fifth field, the type the first after a dash alone. */
const parseMounts = (table: string): readonly Mount[] =>
  table.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const [point, options, dash] = [fields[4], fields[5], fields.indexOf('-')];
    if (point === undefined || options === undefined || dash < 0) return [];
    return [{ point: point.replaceAll('\\040', ' '), options, type: fields[dash + 1] ?? '' }];
  });

async function describePlace(what: string, path: string, mounts: readonly Mount[]): Promise<object> {
  try {
    const existing = await nearestExisting(path);
    const real = await realpath(existing);
    const [{ mode, uid, gid }, space] = await Promise.all([stat(real), spaceAt(real)]);
    return {
      ...{ what, path, exists: existing === path, mode: (mode & 0o7777).toString(8), uid, gid },
      ...space,
      mount: mounts
        .filter(({ point }) => point === '/' || real === point || real.startsWith(`${point}/`))
        .sort((a, b) => a.point.length - b.point.length)
        .at(-1),
    };
  } catch (error) {
    return { what, path, failure: toTarsError(error, 'It cannot be inspected').message };
  }
}
