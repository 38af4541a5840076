import { parseSpan } from '../model/calendar.ts';
import type { RetentionRules } from '../model/retention.ts';
import type { RetentionSettings } from './schema.ts';

/** The rules among the settings, as `retention:` and the flags of `tars forget` give them. */
export type RuleSettings = Partial<Omit<RetentionSettings, 'after_backup' | 'archives'>>;

/**
 * The rules that settings mean. Tags that are separated by commas must all be there, as with restic.
 * @throws ConfigurationError when `keep_within` is no duration
 */
export function retentionRules(settings: RuleSettings): RetentionRules {
  return {
    last: settings.keep_last,
    hourly: settings.keep_hourly,
    daily: settings.keep_daily,
    weekly: settings.keep_weekly,
    monthly: settings.keep_monthly,
    yearly: settings.keep_yearly,
    within: settings.keep_within === undefined ? undefined : parseSpan(settings.keep_within),
    tags: (settings.keep_tags ?? []).map((list) => list.split(',').map((tag) => tag.trim())),
  };
}
