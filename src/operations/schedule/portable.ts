/** What a scheduled run would not know, and what to write into tars.yaml about it. */
export interface Lack {
  /** One sentence for a person. */
  readonly message: string;
  /** An imperative sentence. */
  readonly hint: string | undefined;
}

/** What tars.yaml says itself, and what only this environment does. */
interface Portability {
  readonly settingsPath: string;
  /** tars.yaml says where the password of the repository is. */
  readonly namesPassword: boolean;
  /** Snapshots are to be forgotten by themselves. */
  readonly forgets: boolean;
  /** tars.yaml says which snapshots are kept. */
  readonly keeps: boolean;
  /** Where runs are recorded here, when a scheduled run would record them elsewhere. */
  readonly stateDirHere: string | undefined;
  /** What names the Engine here, when tars.yaml does not and uses one. */
  readonly engineHere: string | undefined;
}

/** A scheduled run has nothing of the environment this one has: the first thing that it would be without. */
export function lackOfScheduledRun(known: Portability): Lack | undefined {
  const { settingsPath, stateDirHere, engineHere } = known;
  const lack = (what: string, hint: string): Lack => ({
    message: `A scheduled run would not have ${what}`,
    hint,
  });
  if (!known.namesPassword) {
    return lack(
      'the password of the repository',
      `Add repository.password_file to ${settingsPath}; TARS_PASSWORD and similar variables are only set in this shell.`,
    );
  }
  if (known.forgets && !known.keeps) {
    return lack(
      'which snapshots to keep',
      `Add retention: to ${settingsPath}, or remove forget: from schedule:`,
    );
  }
  if (stateDirHere !== undefined)
    return lack('where runs are recorded', `Add to ${settingsPath}: state_dir: ${stateDirHere}`);
  if (engineHere !== undefined)
    return lack('DOCKER_HOST', `Add to ${settingsPath}, below docker: host: ${engineHere}`);
  return undefined;
}
