import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';

const tableSchema = z.object({
  schema: z.string(),
  name: z.string(),
  /** `extension-table`: of an extension, whose configuration it holds; older snapshots do not have those. */
  kind: z.enum(['table', 'materialised-view', 'extension-table']),
  rows: z.number().int().nonnegative(),
  /** Order-free hash of all rows as text; decimal. */
  hash: z.string(),
});

const sequenceSchema = z.object({
  schema: z.string(),
  name: z.string(),
  /** As read right after the mark; sequences do not obey snapshots. Decimal. */
  lastValue: z.string(),
  isCalled: z.boolean(),
  descending: z.boolean(),
  cycles: z.boolean(),
});

const largeObjectsSchema = z.object({
  count: z.number().int().nonnegative(),
  sizeBytes: z.number().int().nonnegative(),
  hash: z.string(),
});

const schemaKindSchema = z.object({
  /** As pg_identify_object() calls it, with hyphens: `table`, `table-constraint`, `materialized-view`. */
  kind: z.string(),
  /** Name, hash of the definition, hash of owner and grants. Many: kept short. */
  objects: z.array(z.tuple([z.string(), z.string(), z.string().optional()])),
});

/** What the schemas of a database hold. Definitions read differently on another major version. */
const schemaSchema = z.union([
  z.object({ serverMajor: z.number().int(), listed: z.array(schemaKindSchema) }),
  /** For a database with too many objects to name them all. */
  z.object({
    serverMajor: z.number().int(),
    summed: z.array(z.object({ kind: z.string(), count: z.number().int(), hash: z.string() })),
  }),
]);

const unreadSchema = z.object({
  /** Such as `table public.t`, `sequences`. */
  what: z.string(),
  /** Of a table, as in {@link tableSchema}. */
  table: z.object({ schema: z.string(), name: z.string() }).optional(),
  reason: z.string(),
});

/** Both as pg_identify_object() calls them. */
const operatorUseSchema = z.object({ object: z.string(), operator: z.string() });

const contentSchema = z.object({
  /** Older snapshots do not have it. */
  schema: schemaSchema.optional(),
  /** Comments, labels, settings of columns and the like. Older snapshots do not have it. */
  details: schemaSchema.optional(),
  tables: z.array(tableSchema),
  sequences: z.array(sequenceSchema),
  largeObjects: largeObjectsSchema,
  /** Older snapshots do not have the schema. */
  extensions: z.array(z.object({ name: z.string(), version: z.string(), schema: z.string().optional() })),
  /** Named, not restored. */
  subscriptions: z.array(z.object({ name: z.string() })),
  /** Those of tables and indexes, beside the database's own. */
  tablespaces: z.array(z.object({ name: z.string() })),
  invalidIndexes: z.array(z.object({ schema: z.string(), name: z.string() })),
  /** Which definition uses which operator that is not the server's own. Older snapshots do not have it. */
  operatorUses: z.array(operatorUseSchema).optional(),
  /** What could not be read, and so is not compared. It is in the dump all the same. */
  unread: z.array(unreadSchema).optional(),
});

/** What a role may do with the database itself. */
export const grantSchema = z.object({
  /** Null is PUBLIC. */
  grantee: z.string().nullable(),
  privilege: z.string(),
  grantable: z.boolean(),
});

/** `ALTER DATABASE … SET`, and with a role `ALTER ROLE … IN DATABASE … SET`. */
export const databaseSettingSchema = z.object({
  role: z.string().nullable(),
  name: z.string(),
  value: z.string(),
});

/** What a database is beside what is in it. */
export const propertiesSchema = z.object({
  owner: z.string(),
  encoding: z.string(),
  collate: z.string(),
  ctype: z.string(),
  /** `c` libc, `i` ICU, `b` built-in (pg_database.datlocprovider). */
  localeProvider: z.string(),
  locale: z.string().nullable(),
  icuRules: z.string().nullable(),
  tablespace: z.string(),
  connectionLimit: z.number().int(),
  comment: z.string().nullable(),
  grants: z.array(grantSchema),
  settings: z.array(databaseSettingSchema),
});

const databaseSchema = z.object({
  name: z.string(),
  artifact: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  properties: propertiesSchema,
  content: contentSchema,
});

/** A role without its password: facts may be shown. */
export const roleSchema = z.object({
  name: z.string(),
  superuser: z.boolean(),
  inherit: z.boolean(),
  createRole: z.boolean(),
  createDatabase: z.boolean(),
  login: z.boolean(),
  replication: z.boolean(),
  bypassRls: z.boolean(),
  connectionLimit: z.number().int(),
  validUntil: z.string().nullable(),
  comment: z.string().nullable(),
  settings: z.array(z.object({ name: z.string(), value: z.string() })),
});

/** `member` is a member of `role`. */
export const membershipSchema = z.object({
  role: z.string(),
  member: z.string(),
  admin: z.boolean(),
  /** Of PostgreSQL 16 and newer: whether the member has the rights without SET ROLE, and may SET ROLE. */
  inherit: z.boolean().optional(),
  set: z.boolean().optional(),
});

/** `GRANT SET ON PARAMETER`, of PostgreSQL 15 and newer. */
export const parameterGrantSchema = z.object({
  parameter: z.string(),
  /** Null is PUBLIC. */
  grantee: z.string().nullable(),
  privilege: z.string(),
  grantable: z.boolean(),
});

/** `ALTER ROLE ALL SET`. */
export const commonSettingSchema = z.object({ name: z.string(), value: z.string() });

const factsSchema = z.object({
  serverMajor: z.number().int(),
  /** Major version of the pg_dump that wrote the dumps: pg_restore must not be older. */
  clientMajor: z.number().int(),
  passwords: z.enum(['included', 'withheld', 'not-readable']),
  globalsArtifact: z.string(),
  roles: z.array(roleSchema),
  memberships: z.array(membershipSchema),
  /** Older snapshots do not have these. */
  parameterGrants: z.array(parameterGrantSchema).optional(),
  commonSettings: z.array(commonSettingSchema).optional(),
  /** Its configuration, beside the dumps: no restore puts it in place. */
  serverFiles: z.array(z.object({ path: z.string(), artifact: z.string() })).optional(),
  databases: z.array(databaseSchema),
});

export type TableFacts = z.infer<typeof tableSchema>;
export type SequenceFacts = z.infer<typeof sequenceSchema>;
export type LargeObjectFacts = z.infer<typeof largeObjectsSchema>;
export type SchemaFacts = z.infer<typeof schemaSchema>;
export type SchemaKind = z.infer<typeof schemaKindSchema>;
export type OperatorUse = z.infer<typeof operatorUseSchema>;
export type Unread = z.infer<typeof unreadSchema>;
export type ContentFacts = z.infer<typeof contentSchema>;
export type DatabaseProperties = z.infer<typeof propertiesSchema>;
export type DatabaseFacts = z.infer<typeof databaseSchema>;
export type RoleFacts = z.infer<typeof roleSchema>;
export type MembershipFacts = z.infer<typeof membershipSchema>;
export type ParameterGrant = z.infer<typeof parameterGrantSchema>;
export type CommonSetting = z.infer<typeof commonSettingSchema>;
export type PostgresFacts = z.infer<typeof factsSchema>;

/** Reads a capture's facts back. @throws CorruptionError when they are not what a capture writes */
export function parseFacts(facts: unknown, component: string): PostgresFacts {
  const parsed = factsSchema.safeParse(facts);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(
    `The facts of component ${component} do not fit their schema: ${z.prettifyError(parsed.error)}`,
    { hint: 'Use the version of tars that wrote the snapshot, or a newer one.' },
  );
}
