import type { ArtifactAttributes } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';

/** Attributes of a file that has no original on disk: only the user who restores it may read it. */
export function ownAttributes(ctx: OperationContext): ArtifactAttributes {
  return {
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: BigInt(ctx.clock.now().getTime()) * 1_000_000n,
  };
}
