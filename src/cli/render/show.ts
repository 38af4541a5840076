import type { ComponentManifest, Manifest } from '../../model/manifest.ts';
import { shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import { someOf } from '../../model/plural.ts';
import type { InnerDatabase } from '../../ports/kind.ts';
import { incompleteSentences, notCapturedLines, outcomeWord, wholeWord } from './captured.ts';
import { formatTable } from './columns.ts';
import { formatBytes, formatMs } from './units.ts';

export function renderShow(
  summary: SnapshotSummary,
  manifest: Manifest,
  databasesIn: (component: ComponentManifest) => readonly InnerDatabase[],
): string {
  const pause =
    manifest.writerPauseMs === undefined ? '' : `, writers paused for ${formatMs(manifest.writerPauseMs)}`;
  const reason = manifest.consistencyReason === undefined ? '' : ` (${manifest.consistencyReason})`;
  const artifacts = manifest.components.flatMap(artifactRows);
  const components = manifest.components.map((component) => [
    component.name,
    outcomeWord(component),
    component.serverVersion ?? '',
    component.error?.message ?? component.method ?? '',
  ]);
  return [
    `Snapshot ${shortId(summary.id)} of ${manifest.stack} on ${manifest.hostname}, ${wholeWord(manifest)}`,
    `Time ${manifest.time}, consistency ${manifest.consistency}${reason}${pause}`,
    '',
    formatTable(['COMPONENT', 'OUTCOME', 'VERSION', 'HOW'], components),
    ...manifest.components.flatMap(({ name, error }) =>
      error?.hint === undefined ? [] : [`${name}: ${error.hint}`],
    ),
    ...incompleteSentences(manifest.components),
    '',
    formatTable(['>SIZE', 'SHA-256', 'ARTIFACT'], artifacts),
    ...renderDatabases(manifest.components.flatMap(databasesIn)),
    ...renderProject(manifest),
    ...notCapturedLines(manifest.notCaptured),
  ].join('\n');
}

/** So many tables are named; the manifest has more. */
const tablesMax = 5;

function renderDatabases(databases: readonly InnerDatabase[]): string[] {
  if (databases.length === 0) return [];
  const rows = databases.map(({ path, sizeBytes, format, state, tables, tableCount }) => {
    const named = tables
      .slice(0, tablesMax)
      .map((table) => (table.rows === undefined ? table.name : `${table.name} ${table.rows}`));
    return [formatBytes(sizeBytes), format, state, path, someOf(named, tableCount)];
  });
  return ['', formatTable(['>SIZE', 'FORMAT', 'STATE', 'DATABASE', 'ROWS'], rows)];
}

/** What the services ran, with the digest that fetches the same again. */
function renderProject({ compose }: Manifest): string[] {
  if (compose === undefined) return [];
  const rows = compose.services.map(({ name, image, imageId, repoDigests, state, health }) => [
    name,
    health === undefined ? state : `${state}, ${health}`,
    image,
    repoDigests[0] ?? `${imageId} (built locally)`,
  ]);
  return ['', `Project ${compose.project}`, formatTable(['SERVICE', 'STATE', 'IMAGE', 'DIGEST'], rows)];
}

/** Those in a list are too many for a screen. */
function artifactRows({ name, artifacts, artifactList }: ComponentManifest): string[][] {
  const row = (sizeBytes: number, sha256: string, what: string): string[] => [
    formatBytes(sizeBytes),
    sha256.slice(0, 16),
    what,
  ];
  if (artifactList === undefined) return artifacts.map((each) => row(each.sizeBytes, each.sha256, each.path));
  const { path, sha256, artifactBytes } = artifactList;
  return [row(artifactBytes, sha256, `${name}/ with ${artifactList.artifacts} artifacts, listed in ${path}`)];
}
