import {
  calendarFields,
  formatSpan,
  isZeroSpan,
  subtractSpan,
  type CalendarFields,
  type CalendarSpan,
  type OffsetAt,
} from './calendar.ts';

/** Which snapshots to keep; whatever no rule keeps may go. */
export interface RetentionRules {
  /** The number of newest snapshots to keep. */
  readonly last?: number | undefined;
  /** Keeps the newest snapshot of each of the last n hours that have one; the same for days, ISO weeks, months, years. */
  readonly hourly?: number | undefined;
  readonly daily?: number | undefined;
  readonly weekly?: number | undefined;
  readonly monthly?: number | undefined;
  readonly yearly?: number | undefined;
  /** All that are younger than this, counted from the newest one that is not in the future. */
  readonly within?: CalendarSpan | undefined;
  /** Each a list of tags; a snapshot that has all tags of any list stays. */
  readonly tags: readonly (readonly string[])[];
}

/** What the rules need to know of a snapshot. */
export interface DatedSnapshot {
  readonly id: string;
  readonly time: Date;
  /** By which clock `time` was written down: hours, days and so on are those of that clock. */
  readonly utcOffsetMinutes: number;
  readonly tags: readonly string[];
}

/** What the rules say of one snapshot. */
export interface RetentionDecision<S> {
  readonly snapshot: S;
  readonly keep: boolean;
  /** Why it stays, one for each rule that keeps it, in restic's words; empty when none does. */
  readonly reasons: readonly string[];
}

/** When and where the rules are applied: days and weeks are those of this time zone. */
export interface RetentionSurroundings {
  readonly now: Date;
  /** The time zone of this machine. */
  readonly offsetAt: OffsetAt;
}

/** True when the rules would keep nothing at all, which no one intends. */
export function isEmptyRules({ within, tags, ...counts }: RetentionRules): boolean {
  return (
    tags.length === 0 &&
    (within === undefined || isZeroSpan(within)) &&
    Object.values(counts).every((count) => (count ?? 0) === 0)
  );
}

/**
 * Decides which snapshots of one group stay, newest first. The rules are those of restic since 0.16
 * (`internal/data/snapshot_policy.go`), where a rule with counts left keeps the oldest snapshot too, so that
 * history grows to its full length; versions before leave out what is kept as `oldest …` only.
 */
export function applyRetention<S extends DatedSnapshot>(
  snapshots: readonly S[],
  rules: RetentionRules,
  surroundings: RetentionSurroundings,
): readonly RetentionDecision<S>[] {
  const newestFirst = [...snapshots].sort(
    (a, b) => b.time.getTime() - a.time.getTime() || (a.id < b.id ? -1 : 1),
  );
  const within = withinRule(newestFirst, rules.within, surroundings);
  const buckets = bucketRules(rules);
  return newestFirst.map((snapshot, index) => {
    const isOldest = index === newestFirst.length - 1;
    const fields = calendarFields(snapshot.time.getTime(), snapshot.utcOffsetMinutes);
    const reasons = [
      ...tagReasons(snapshot, rules.tags),
      ...within(snapshot),
      ...buckets.flatMap((bucket) => bucket.visit(fields, index, isOldest)),
    ];
    return { snapshot, keep: reasons.length > 0, reasons };
  });
}

/** restic's: an empty tag in a list means a snapshot without any. */
function tagReasons({ tags }: DatedSnapshot, lists: RetentionRules['tags']): string[] {
  const hasAll = (list: readonly string[]): boolean => {
    for (const tag of list) {
      if (tag === '' && tags.length === 0) return true;
      if (!tags.includes(tag)) return false;
    }
    return true;
  };
  return lists.filter(hasAll).map((list) => `has tags [${list.join(', ')}]`);
}

function withinRule(
  newestFirst: readonly DatedSnapshot[],
  span: CalendarSpan | undefined,
  { now, offsetAt }: RetentionSurroundings,
): (snapshot: DatedSnapshot) => string[] {
  if (span === undefined || isZeroSpan(span)) return () => [];
  const newest = newestFirst.find(({ time }) => time.getTime() < now.getTime());
  const sinceMs = newest === undefined ? Number.NEGATIVE_INFINITY : startOfSpan(newest, span, offsetAt);
  const reason = `within ${formatSpan(span)}`;
  return ({ time }) => (time.getTime() > sinceMs ? [reason] : []);
}

/**
 * Go takes a time whose offset is that of the machine's zone at that moment for one of that zone, with its changes
 * of the clocks, and any other for one of a fixed offset; what ends in `Z` is UTC always.
 */
function startOfSpan(
  { time, utcOffsetMinutes }: DatedSnapshot,
  span: CalendarSpan,
  offsetAt: OffsetAt,
): number {
  const isLocal = utcOffsetMinutes !== 0 && offsetAt(time.getTime()) === utcOffsetMinutes;
  return subtractSpan(time.getTime(), span, isLocal ? offsetAt : () => utcOffsetMinutes);
}

type BucketOf = (fields: CalendarFields, index: number) => number;

const bucketsByRule: Readonly<
  Record<'last' | 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly', BucketOf>
> = {
  last: (_fields, index) => index,
  hourly: ({ year, month, day, hour }) => ((year * 100 + month) * 100 + day) * 100 + hour,
  daily: ({ year, month, day }) => (year * 100 + month) * 100 + day,
  weekly: ({ isoYear, isoWeek }) => isoYear * 100 + isoWeek,
  monthly: ({ year, month }) => year * 100 + month,
  yearly: ({ year }) => year,
};

interface BucketRule {
  /** Asked of each snapshot, newest first. */
  visit(fields: CalendarFields, index: number, isOldest: boolean): string[];
}

function bucketRules(rules: RetentionRules): BucketRule[] {
  return Object.entries(bucketsByRule).map(([name, bucketOf]) => {
    let left = rules[name as keyof typeof bucketsByRule] ?? 0;
    let previous: number | undefined;
    return {
      visit(fields, index, isOldest) {
        const bucket = bucketOf(fields, index);
        const isNew = bucket !== previous;
        if (left <= 0 || !(isNew || isOldest)) return [];
        previous = bucket;
        left -= 1;
        return [`${isNew ? '' : 'oldest '}${name} snapshot`];
      },
    };
  });
}
