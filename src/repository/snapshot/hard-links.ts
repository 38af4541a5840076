import { TarsError } from '../../model/errors.ts';
import type { ManifestArtifact } from '../../model/manifest.ts';
import type { FileIdentity } from '../../ports/artifacts.ts';
import type { TreeNode } from '../format/tree.ts';

interface Named {
  readonly artifact: ManifestArtifact;
  readonly node: Omit<TreeNode, 'name'>;
  names: number;
}

/** Files of which more names are to come. One is forgotten when all its names are there. */
export class HardLinks {
  readonly #files = new Map<string, Named>();

  /** A file was recorded under its first name. */
  note(artifact: ManifestArtifact, node: Omit<TreeNode, 'name'>): void {
    if ((node.links ?? 1) > 1) this.#files.set(artifact.path, { artifact, node, names: 1 });
  }

  /** The file that was recorded as `path`, for one more name. @throws TarsError `artifact-not-found` */
  next(path: string, { links = 0 }: FileIdentity): Named {
    const file = this.#files.get(path);
    if (file === undefined) {
      throw new TarsError('artifact-not-found', `${path} was not recorded as a file with more names`);
    }
    file.names++;
    if (file.names >= Math.max(links, file.node.links ?? 1)) this.#files.delete(path);
    return file;
  }
}
