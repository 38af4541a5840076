import type { ArtifactAttributes } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';

/** Of what no file on disk is the original of: whoever restores it reads it, and nobody else. */
export function ownAttributes(ctx: OperationContext): ArtifactAttributes {
  return {
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: BigInt(ctx.clock.now().getTime()) * 1_000_000n,
  };
}
