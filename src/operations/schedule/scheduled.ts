/** Whether anything on this machine starts what the schedule says. */
export interface Scheduled {
  readonly state: 'installed' | 'differs' | 'absent';
  /** False when it is there, and nothing starts it: no cron daemon runs. */
  readonly runs: boolean;
  /** Such as `cron`. */
  readonly by: string | undefined;
  /** Other names that the stack of this tars.yaml had when its schedule was installed. */
  readonly leftovers: readonly string[];
  /** What such a run would not know, being started without this environment. */
  readonly lacks: { readonly message: string; readonly hint: string | undefined } | undefined;
}

/** What keeps scheduled runs from being started, and what to do about it. */
export interface NotStarted {
  /** One sentence for a person. */
  readonly found: string;
  /** An imperative sentence. */
  readonly hint: string;
}

/** Why nothing on this machine starts what tars.yaml schedules; undefined when something does. */
export function notStarted({ state, by, runs }: Scheduled): NotStarted | undefined {
  if (state === 'absent') {
    return {
      found: 'Nothing on this machine starts what schedule: in tars.yaml says',
      hint: 'Run tars schedule install, or keep tars daemon running.',
    };
  }
  if (runs) return undefined;
  return {
    found: `Nothing starts what ${by ?? 'a scheduler'} is told to: no ${by ?? 'scheduler'} runs here`,
    hint: 'Start it and have it started with the machine (systemctl enable --now cron, or crond), or keep tars daemon running.',
  };
}
