import type { CapturedPlace } from '../model/captured-place.ts';

/** What is known of a place of the services that no component captures. */
export interface PlaceNote {
  readonly place: CapturedPlace | { readonly volume: string };
  /** Why no component captures it. */
  readonly reason: string;
  /** A restore need not bring it back. */
  readonly mayBeMissing: boolean;
  /** It does not hold for other places that lie in this one. Absent: it does. */
  readonly isOfPlaceAlone?: true;
}
