import type { Contestant, Step } from './contestant.ts';
import type { Measurement } from './measure.ts';
import type { Workload } from './workload.ts';

/** One thing a contestant did in one round. */
export interface Sample extends Measurement {
  readonly round: number;
  readonly contestant: string;
  readonly step: Step;
  /** By how much its storage grew; of backups only. */
  readonly storedBytes?: number;
}

/**
 * Every contestant does each step on the same data before the next step begins, so that what the machine does
 * meanwhile meets all of them alike.
 */
export async function runRounds(
  contestants: readonly Contestant[],
  workload: Workload,
  rounds: number,
  say: (line: string) => void,
): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const contestant of contestants) await contestant.begin();
    const record = (contestant: string, step: Step, measured: Measurement, storedBytes?: number): void => {
      samples.push({
        round,
        contestant,
        step,
        ...measured,
        ...(storedBytes === undefined ? {} : { storedBytes }),
      });
      say(`round ${round} of ${rounds}, ${step}, ${contestant}: ${(measured.wallMs / 1000).toFixed(1)} s`);
    };
    const backUp = async (step: Step): Promise<void> => {
      for (const contestant of contestants) {
        const before = await contestant.storedBytes();
        const measured = await contestant.backup();
        record(contestant.name, step, measured, (await contestant.storedBytes()) - before);
      }
    };
    await backUp('first backup');
    await backUp('unchanged');
    await workload.change();
    await backUp('after 1% change');
    for (const contestant of contestants)
      record(contestant.name, 'check, all data', await contestant.check());
    for (const contestant of contestants) {
      await workload.loseModels();
      const { whole, extraction } = await contestant.restore();
      record(contestant.name, 'restore', whole);
      if (extraction !== undefined) record(contestant.name, 'of that, extraction', extraction);
      await workload.requireRestored(contestant.name);
    }
  }
  return samples;
}
