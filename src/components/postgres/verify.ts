import { TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import { compareContent, compareProperties } from './compare.ts';
import { readContent, readSequences } from './content.ts';
import type { DatabaseFacts, PostgresFacts } from './facts.ts';
import type { PostgresOptions } from './options.ts';
import { readProperties } from './properties.ts';
import { missingRoles } from './roles.ts';
import { openControlSession, openSession, sqlState, type Session } from './session.ts';

/** Compares the database called `name`, live or staged, with what was captured of `expected`. */
export async function verifyDatabase(
  options: PostgresOptions,
  control: Session,
  expected: DatabaseFacts,
  name: string,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  await using session = await openSession(options, name, signal);
  await session.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', signal);
  const sequences = await readSequences(session, signal);
  const found = await readContent(session, sequences, signal, expected.content.schema);
  const properties = await readProperties(control, name, signal);
  return [
    ...compareContent(expected, found, options.name, name !== expected.name),
    ...compareProperties(expected.name, expected.properties, properties, options.name),
  ];
}

/** Compares everything live with the capture. */
export async function verifyLive(
  options: PostgresOptions,
  facts: PostgresFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  await using control = await openControlSession(options, signal);
  for (const { name } of await missingRoles(control, facts, signal)) {
    findings.push({
      severity: 'error',
      subject: options.name,
      code: 'role-missing',
      message: `Role "${name}" is missing`,
    });
  }
  for (const database of facts.databases) {
    try {
      findings.push(...(await verifyDatabase(options, control, database, database.name, signal)));
    } catch (error) {
      if (!(error instanceof TarsError) || sqlState(error) !== '3D000') throw error;
      findings.push({
        severity: 'error',
        subject: options.name,
        code: 'database-missing',
        message: `Database "${database.name}" is missing`,
      });
    }
  }
  return findings;
}
