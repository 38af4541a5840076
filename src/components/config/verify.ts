import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import { parseConfigFacts, type CapturedFile } from './facts.ts';
import { liveBytes, restoreConfigHint } from './plan.ts';

/**
 * Compares the live files with the capture. A missing file is an error where the snapshot could bring it back. One
 * that differs is a warning: people edit configuration, and a restore leaves it unless told otherwise.
 */
export async function verifyConfig(
  configured: readonly string[],
  from: ComponentManifest,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const facts = parseConfigFacts(from.facts, from.name);
  const findings: Finding[] = [];
  const report = (severity: Finding['severity'], code: string, message: string): number =>
    findings.push({ severity, subject: from.name, code, message });
  for (const file of facts.files) {
    const live = await liveBytes(file.path, signal);
    if (live === undefined) {
      // It is only there after a restore that needed it.
      if (file.path === facts.derived?.path) continue;
      const restorable = facts.trueCopy !== 'none' && configured.includes(file.path);
      report(restorable ? 'error' : 'warning', 'file-missing', `${file.path} is missing`);
      continue;
    }
    const differs =
      file.sha256 !== undefined && createHash('sha256').update(live).digest('hex') !== file.sha256;
    if (differs)
      report('warning', 'file-differs', `${file.path} differs from the snapshot; ${restoreConfigHint}`);
    const mode = await wrongMode(file);
    if (mode !== undefined) report('warning', 'mode-differs', mode);
  }
  if (facts.hashes === 'withheld' && facts.files.length > 0) {
    report(
      'info',
      'hashes-withheld',
      'The contents cannot be compared: an unencrypted archive keeps no hashes of files with secrets',
    );
  }
  return findings;
}

async function wrongMode(file: CapturedFile): Promise<string | undefined> {
  const mode = (await stat(file.path)).mode & 0o7777;
  if (mode === file.mode) return undefined;
  return `${file.path} has mode ${mode.toString(8)} instead of ${file.mode.toString(8)}`;
}
