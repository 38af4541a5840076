import { outcomeTags, type Manifest } from '../model/manifest.ts';
import type { SnapshotSummary } from '../model/snapshot.ts';

/** An archive as a listing shows it; `root` is its base name without suffix. */
export function archiveSummary(root: string, manifest: Manifest): SnapshotSummary {
  return {
    id: root,
    time: new Date(manifest.time),
    utcOffsetMinutes: 0,
    stack: manifest.stack,
    hostname: manifest.hostname,
    tags: outcomeTags(manifest),
    paths: [`/tars/${manifest.stack}`],
    program: `tars ${manifest.toolVersion}`,
  };
}
