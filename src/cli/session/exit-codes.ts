import { TarsError, type ErrorCode } from '../../model/errors.ts';

/** What the shell sees (0 success, 1 error, 2 partial, 10 no repository, 11 locked, 12 wrong password, 130 interrupted). */
export const exitCodes = {
  success: 0,
  error: 1,
  partial: 2,
  noRepository: 10,
  locked: 11,
  wrongPassword: 12,
  interrupted: 130,
} as const;

const byErrorCode: Partial<Record<ErrorCode, number>> = {
  'repository-not-found': exitCodes.noRepository,
  'repository-locked': exitCodes.locked,
  'wrong-password': exitCodes.wrongPassword,
  interrupted: exitCodes.interrupted,
};

/** The exit code of a run that ended with `error`. */
export function exitCodeOf(error: unknown): number {
  return error instanceof TarsError ? (byErrorCode[error.code] ?? exitCodes.error) : exitCodes.error;
}
