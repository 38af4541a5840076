import { shellQuoted } from '../../../model/shell-word.ts';
import { encodeLossless } from '../../../model/byte-text.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { openPath, type OpenedPath } from '../../../disk/open-path.ts';
import { openAlong, openAlongIfThere } from '../tree/along.ts';
import { contentName, openIfThere, type BegunExchange } from './exchange.ts';
import { directoriesAbove, findKept } from '../tree/kept.ts';
import type { TreeScope } from '../tree/scope.ts';

/** Shell lines with which a person undoes the exchange, the service being stopped, as things stand now. */
export async function wayBackLines(
  { exchange, content }: BegunExchange,
  scopeOf: (live: OpenedPath) => Promise<TreeScope>,
): Promise<readonly string[]> {
  const { live: path, holder } = exchange;
  const previous = `${holder === '/' ? '' : holder}/${exchange.previous}`;
  const [aside, restored] = [`${previous}/${contentName}`, `${previous}/restored`];
  using live = await openIfThere(path);
  if (live === undefined) return [`mv ${quote(path)} ${quote(restored)}`];
  using opened = await openPath(path);
  const kept = findKept(live, await scopeOf(opened), content);
  if (kept.size === 0 && holder !== path)
    return [`mv ${quote(path)} ${quote(restored)}`, `mv ${quote(aside)} ${quote(path)}`];
  const directories = directoriesAbove(kept.keys());
  const below = (base: string, way: string): string => quote(way === '' ? base : `${base}/${way}`);
  return directories.flatMap(({ path: way, keep }) => {
    const own = ['*.tars-new-*', '*.tars-prev-*', ...(way === '' ? ['lost+found'] : [])].map(
      (name) => `! -name ${quote(name)}`,
    );
    const stays = [...own, ...keep.map((name) => `! -name ${quote(escapeGlob(name))}`)].join(' ');
    const move = (from: string, to: string, but: string): string =>
      `find ${from} -mindepth 1 -maxdepth 1 ${but}${but === '' ? '' : ' '}-exec mv -t ${to} -- {} +`;
    return [
      `mkdir -p ${below(restored, way)}`,
      move(below(path, way), below(restored, way), stays),
      move(below(aside, way), below(path, way), stays),
      ...attributesLines(live, way, below(path, way)),
    ];
  });
}

function attributesLines(live: OpenDirectory, way: string, at: string): readonly string[] {
  using directory = openAlongIfThere(live, way) ?? openAlong(live, '');
  const { uid, gid, mode } = directory.stat();
  return [`chown ${uid}:${gid} ${at} && chmod ${(mode & 0o7777n).toString(8)} ${at}`];
}

const escapeGlob = (name: string): string => name.replaceAll(/[\\*?[\]]/g, String.raw`\$&`);

/** For a shell; bytes that are no text as printf writes them. */
function quote(text: string): string {
  if (text.isWellFormed()) return shellQuoted(text);
  const octal = [...encodeLossless(text)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  return `"$(printf '${octal}')"`;
}
