import type { Finding } from '../../../model/finding.ts';
import { compareSchema, type MakeFinding } from './compare-schema.ts';
import type { SchemaFacts } from '../facts.ts';
import { readObjects } from './schema.ts';
import { access, grants, inOwnSchema, notBuiltIn, ownRelation, sorted } from './schema-definitions.ts';
import type { Session } from '../connection/session.ts';

/**
 * Reads what a dump carries beside the definitions of {@link readSchema}: comments and labels, grants on what the
 * server and extensions made, and what is set for columns, collations, searches and the like. They are facts of their
 * own, so that the definitions in older snapshots still compare.
 * @param like facts this is to be compared with: it is listed or summed up as they are
 */
export async function readDetails(
  session: Session,
  like: SchemaFacts | undefined,
  signal: AbortSignal,
): Promise<SchemaFacts> {
  return readObjects(
    session,
    () => `SELECT kind, name, definition, access FROM (${details.join(' UNION ALL ')}) o
      WHERE name IS NOT NULL AND definition IS NOT NULL`,
    like,
    signal,
  );
}

/** Compares what {@link readDetails} found. No data depends on it: differences are warnings. */
export function compareDetails(
  captured: SchemaFacts | undefined,
  found: SchemaFacts | undefined,
  finding: MakeFinding,
): Finding[] {
  if (captured === undefined || found === undefined) {
    const message = 'an older tars took the snapshot: comments, labels and the like are not compared';
    return [finding('info', 'details-not-captured', message)];
  }
  const warning: MakeFinding = (_severity, _code, message) => finding('warning', 'detail-differs', message);
  return compareSchema(captured, found, false, warning);
}

const hash = (text: string): string => `to_hex(hashtextextended(${text} COLLATE "C", 0))`;

/** Queries with the columns `kind, name, definition, access`; what has no name or no definition is left out. */
const details = [
  ...comments(),
  ...columnsAndToast(),
  ...clonedTriggers(),
  ...grantsOnOthers(),
  ...largeObjects(),
  ...dependencies(),
  ...userMappings(),
  ...catalogs(),
];

/** True for what is not a part of an extension. */
function notOfExtension(classid: string, objid: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend e
    WHERE e.classid = ${classid} AND e.objid = ${objid} AND e.objsubid = 0 AND e.deptype = 'e')`;
}

/** What inherited constraints and the clones on partitions are labelled with is in no dump. */
function comments(): string[] {
  return [
    `SELECT x.label || i.type AS kind, i.identity AS name, ${hash('x.text')} AS definition, NULL AS access
     FROM (SELECT classoid, objoid, objsubid, 'comment on ' AS label, description AS text FROM pg_description
           UNION ALL
           SELECT classoid, objoid, objsubid, 'label by ' || provider || ' of ', label FROM pg_seclabel) x,
       pg_identify_object(x.classoid, x.objoid, x.objsubid) i
     WHERE (${notBuiltIn('x.objoid')} OR x.classoid = 'pg_largeobject'::regclass OR i.type = 'schema' AND i.name = 'public')
       AND ${notOfExtension('x.classoid', 'x.objoid')}
       AND i.schema IS DISTINCT FROM 'pg_toast'
       AND NOT (x.classoid = 'pg_extension'::regclass AND i.name = 'plpgsql')
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE x.classoid = 'pg_constraint'::regclass AND k.oid = x.objoid
         AND (k.contype = 'c' AND NOT k.conislocal AND k.conrelid <> 0 OR k.contype = 'f' AND k.conparentid <> 0))
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE x.classoid = 'pg_trigger'::regclass AND t.oid = x.objoid
         AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') <> '0')
       AND NOT EXISTS (SELECT FROM pg_index b WHERE x.classoid = 'pg_class'::regclass AND b.indexrelid = x.objoid
         AND NOT b.indisvalid)`,
  ];
}

/** The statistics target of "the default" is -1, and NULL since 17. */
function columnsAndToast(): string[] {
  const perColumn = `(SELECT string_agg(ROW(a.attname, nullif(a.attstattarget, -1),
         nullif(a.attstorage, ty.typstorage), nullif(to_jsonb(a) ->> 'attcompression', ''))::text, ','
       ORDER BY a.attname COLLATE "C")
     FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND (nullif(a.attstattarget, -1) IS NOT NULL OR a.attstorage <> ty.typstorage
         OR coalesce(to_jsonb(a) ->> 'attcompression', '') <> ''))`;
  const toast = `(SELECT ${sorted('t.reloptions')} FROM pg_class t WHERE t.oid = c.reltoastrelid)`;
  const indexed = `(SELECT string_agg(ROW(a.attnum, a.attstattarget)::text, ',' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = x.indexrelid AND nullif(a.attstattarget, -1) IS NOT NULL)`;
  return [
    `SELECT 'storage and statistics of ' || i.type, i.identity,
       CASE WHEN v.columns IS NOT NULL OR v.toast IS NOT NULL THEN ${hash('ROW(v.columns, v.toast)::text')} END, NULL
     FROM ${ownRelation}, LATERAL (SELECT ${perColumn} AS columns, ${toast} AS toast) v,
       pg_identify_object('pg_class'::regclass, c.oid, 0) i
     WHERE c.relkind IN ('r', 'p', 'm', 'f')`,
    `SELECT 'statistics of index', i.identity, ${hash(indexed)}, NULL
     FROM pg_index x JOIN ${ownRelation} ON c.oid = x.indrelid, pg_identify_object('pg_class'::regclass, x.indexrelid, 0) i
     WHERE x.indisvalid OR c.relkind = 'p'`,
  ];
}

/** Only one that is not in the state of its parent is dumped. */
function clonedTriggers(): string[] {
  return [
    `SELECT 'state of trigger', i.identity, t.tgenabled::text, NULL
     FROM pg_trigger t JOIN ${ownRelation} ON c.oid = t.tgrelid
       JOIN pg_trigger parent ON parent.oid::text = to_jsonb(t) ->> 'tgparentid' AND parent.tgenabled <> t.tgenabled,
       pg_identify_object('pg_trigger'::regclass, t.oid, 0) i
     WHERE NOT parent.tgisinternal`,
  ];
}

/**
 * Grants on what the server or an extension made, where they are not those it was made with. The constructors of range
 * types are parts of these types: no dump has their grants.
 */
function grantsOnOthers(): string[] {
  const catalog = (name: string, prefix: string, owner: string, type: string): string =>
    `SELECT '${name}'::regclass AS classid, x.oid AS objid, 0 AS objsubid, ${prefix}acl AS acl, acldefault(${type}, ${owner}) AS usual
     FROM ${name} x`;
  const all = [
    catalog('pg_proc', 'pro', 'x.proowner', `'f'`),
    catalog('pg_class', 'rel', 'x.relowner', `CASE x.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char"`),
    catalog('pg_type', 'typ', 'x.typowner', `'T'`),
    catalog('pg_language', 'lan', 'x.lanowner', `'l'`),
    catalog('pg_foreign_data_wrapper', 'fdw', 'x.fdwowner', `'F'`),
    catalog('pg_namespace', 'nsp', 'x.nspowner', `'n'`),
    `SELECT 'pg_class'::regclass, x.attrelid, x.attnum, x.attacl, acldefault('c', 10) FROM pg_attribute x WHERE NOT x.attisdropped`,
  ];
  const current = grants('coalesce(x.acl, x.usual)');
  return [
    `SELECT 'grants on ' || i.type, i.identity, ${hash(current)}, NULL
     FROM (${all.join(' UNION ALL ')}) x
       LEFT JOIN pg_init_privs p ON p.classoid = x.classid AND p.objoid = x.objid AND p.objsubid = x.objsubid,
       pg_identify_object(x.classid, x.objid, x.objsubid) i
     WHERE (x.acl IS NOT NULL OR p.initprivs IS NOT NULL)
       AND (x.objid < 16384 AND i.identity <> 'public' OR NOT ${notOfExtension('x.classid', 'x.objid')})
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = x.classid AND d.objid = x.objid AND d.deptype = 'i')
       AND ${current} IS DISTINCT FROM ${grants('coalesce(p.initprivs, x.usual)')}`,
  ];
}

/** There may be millions: one sum for all. */
function largeObjects(): string[] {
  return [
    `SELECT 'owners and grants of', 'large objects',
       sum(hashtextextended(ROW(m.oid, ${access('L', 'm.lomowner', 'm.lomacl')})::text COLLATE "C", 0)::numeric)::text, NULL
     FROM pg_largeobject_metadata m`,
  ];
}

/** `ALTER FUNCTION … DEPENDS ON EXTENSION` */
function dependencies(): string[] {
  return [
    `SELECT 'dependency on extension ' || e.extname || ' of ' || i.type, i.identity, '', NULL
     FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass,
       pg_identify_object(d.classid, d.objid, 0) i
     WHERE d.deptype = 'x'`,
  ];
}

/** Without the values of their options: a password is among them. */
function userMappings(): string[] {
  const names = `(SELECT string_agg(split_part(item, '=', 1), ',' ORDER BY item COLLATE "C") FROM unnest(u.umoptions) item)`;
  return [
    `SELECT 'user mapping', u.usename || ' on server ' || u.srvname, coalesce(${names}, ''), NULL FROM pg_user_mappings u`,
  ];
}

/** What the definitions of rare objects leave out. */
function catalogs(): string[] {
  const catalog = (name: string, where: string, definition: string, owner?: string): string =>
    `SELECT 'properties of ' || i.type, i.identity, ${hash(definition)},
       ${owner === undefined ? 'NULL' : `pg_get_userbyid(x.${owner})`}
     FROM ${name} x, pg_identify_object('${name}'::regclass, x.oid, 0) i
     WHERE ${where} AND ${notOfExtension(`'${name}'::regclass`, 'x.oid')}`;
  const inSchema = (name: string, prefix: string, definition: string, owned = true): string =>
    catalog(name, inOwnSchema(`x.${prefix}namespace`), definition, owned ? `${prefix}owner` : undefined);
  const json = (member: string): string => `to_jsonb(x) ->> '${member}'`;
  const types = (left: string, right: string): string =>
    `format_type(${left}, NULL), format_type(${right}, NULL)`;
  const members = (operators: string, functions: string): string =>
    `(SELECT string_agg(m.member, ',' ORDER BY m.member COLLATE "C") FROM (
       SELECT ROW(a.amopstrategy, a.amoppurpose, ${types('a.amoplefttype', 'a.amoprighttype')}, a.amopopr::regoperator)::text
         AS member FROM pg_amop a WHERE ${operators}
       UNION ALL
       SELECT ROW(a.amprocnum, ${types('a.amproclefttype', 'a.amprocrighttype')}, a.amproc::oid::regprocedure)::text
         FROM pg_amproc a WHERE ${functions}) m)`;
  const ofClass = (name: string): string =>
    `EXISTS (SELECT FROM pg_depend d WHERE d.classid = '${name}'::regclass AND d.objid = a.oid
       AND d.refclassid = 'pg_opclass'::regclass AND d.refobjid = x.oid)`;
  return [
    inSchema(
      'pg_collation',
      'coll',
      `ROW(${json('collisdeterministic')}, x.collencoding, coalesce(${json('colllocale')}, ${json('colliculocale')}),
         ${json('collicurules')})::text`,
    ),
    inSchema('pg_conversion', 'con', 'ROW(x.conforencoding, x.contoencoding, x.condefault)::text'),
    inSchema(
      'pg_ts_dict',
      'dict',
      `(pg_identify_object('pg_ts_template'::regclass, x.dicttemplate, 0)).identity`,
    ),
    inSchema(
      'pg_ts_config',
      'cfg',
      `ROW((pg_identify_object('pg_ts_parser'::regclass, x.cfgparser, 0)).identity,
         (SELECT string_agg(ROW(m.maptokentype, m.mapdict::regdictionary)::text, ',' ORDER BY m.maptokentype, m.mapseqno)
            FROM pg_ts_config_map m WHERE m.mapcfg = x.oid))::text`,
    ),
    inSchema('pg_ts_parser', 'prs', `(to_jsonb(x) - 'oid' - 'prsnamespace')::text`, false),
    inSchema('pg_ts_template', 'tmpl', `(to_jsonb(x) - 'oid' - 'tmplnamespace')::text`, false),
    inSchema(
      'pg_opclass',
      'opc',
      `ROW(x.opcdefault, ${types('x.opcintype', 'nullif(x.opckeytype, 0)')},
         (pg_identify_object('pg_opfamily'::regclass, x.opcfamily, 0)).identity,
         ${members(ofClass('pg_amop'), ofClass('pg_amproc'))})::text`,
    ),
    inSchema(
      'pg_opfamily',
      'opf',
      `coalesce(${members('a.amopfamily = x.oid', 'a.amprocfamily = x.oid')}, '')`,
    ),
    inSchema('pg_statistic_ext', 'stx', `coalesce(nullif(${json('stxstattarget')}, '-1'), '')`),
    catalog('pg_transform', notBuiltIn('x.oid'), 'ROW(x.trffromsql, x.trftosql)::text'),
    catalog('pg_am', notBuiltIn('x.oid'), 'ROW(x.amhandler, x.amtype)::text'),
    catalog(
      'pg_language',
      notBuiltIn('x.oid'),
      `ROW(x.lanpltrusted, x.lanplcallfoid::regproc, x.laninline::regproc, x.lanvalidator::regproc)::text`,
    ),
  ];
}
