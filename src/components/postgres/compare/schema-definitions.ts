import { literal } from '../names.ts';

/** Relations pg_dump would dump data of: no system schemas, nothing that belongs to an extension. */
export const ownRelations = `
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')`;

/**
 * One query for each catalog with things that people define, all with the columns
 * `classid, objid, onrelid, definition, access`: the object, the relation its name is not complete without, and as
 * text what makes it up and who may use it. OIDs and whatever a dump does not carry stay out of the text. Written for
 * an empty search_path, where types, functions and relations read as qualified names.
 */
export function definitions(major: number): string[] {
  return [
    relations,
    sequences,
    indexes,
    constraints,
    triggers,
    rules,
    policies,
    functions,
    types,
    publications(major),
    eventTriggers,
    casts,
    operators,
    ...others.map(otherObjects),
  ];
}

/** Objects of their own schemas; what follows may add conditions. */
export const inOwnSchema = (column: string): string =>
  `EXISTS (SELECT FROM pg_namespace n WHERE n.oid = ${column} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')`;

/** FirstNormalObjectId: below are the server's own (PostgreSQL source, access/transam.h). */
export const notBuiltIn = (column: string): string => `${column} >= 16384`;

/** A row source `c` of {@link ownRelations}. */
export const ownRelation = `(SELECT c.* ${ownRelations}) c`;

/** A list of grants in an order of its own, without who granted them. */
export const grants = (acl: string): string =>
  `(SELECT string_agg(g::text, ',' ORDER BY g::text COLLATE "C") FROM (
     SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type, bool_or(is_grantable)
     FROM aclexplode(${acl}) GROUP BY 1, 2) g)`;

/** Owner and grants; without grants the defaults of the kind of object hold. */
export const access = (kind: string, owner: string, acl: string): string =>
  `ROW(pg_get_userbyid(${owner}), ${grants(`coalesce(${acl}, acldefault('${kind}', ${owner}))`)})::text`;

/** A list of texts in an order of its own. */
export const sorted = (list: string): string =>
  `(SELECT string_agg(item, ',' ORDER BY item COLLATE "C") FROM unnest(${list}) item)`;

const name = String.raw`(?:"(?:[^"]|"")+"|[\w$]+)`;
const atom = String.raw`(?:E?'(?:[^']|'')*'|${name}(?:\.${name})*)`;
const typeName = String.raw`${name}(?:\.${name})?(?: varying| precision)?(?:\([\d,]+\))?(?: with(?:out)? time zone)?(?:\[\])*`;
const array = String.raw`ARRAY\[${atom}(?:, ${atom})*\]`;

/**
 * The text of an expression without the casts of its columns and constants. A dump that is read back moves casts:
 * `(ARRAY['a'::character varying, 'b'::character varying])::text[]`, which is how `x IN ('a', 'b')` reads, becomes
 * `ARRAY[('a'::character varying)::text, ('b'::character varying)::text]`. What parentheses group is kept, since it
 * has a meaning; so `x IN (column, column, …)` reads as changed when a dump has flattened its chain of ORs.
 */
const expression = (text: string): string =>
  [atom, atom, array].reduce(
    (inner, operand) =>
      `regexp_replace(${inner}, ${literal(String.raw`\((${operand})\)::${typeName}|(${operand})::${typeName}`)}, ${literal(String.raw`\1\2`)}, 'g')`,
    `${text} COLLATE "C"`,
  );

const collationName = (column: string): string =>
  `(SELECT ROW(cn.nspname, co.collname)::text FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
    WHERE co.oid = ${column})`;

/** The server keeps notes of its own among a column's options, which no dump carries. */
const dumpedOptions = `(SELECT string_agg(item, ',' ORDER BY item COLLATE "C") FROM unnest(a.attoptions) item
  WHERE item ~ '^n_distinct')`;

/** In the order of their names: a dump puts inherited ones first. Those of a composite type keep their places. */
const columns = (relation: string, order: 'attname' | 'attnum'): string =>
  `(SELECT string_agg(ROW(a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
       ${expression('pg_get_expr(ad.adbin, ad.adrelid)')}, ${collationName('nullif(a.attcollation, ty.typcollation)')},
       ${dumpedOptions}, ${sorted('a.attfdwoptions')})::text, ','
     ORDER BY ${order === 'attname' ? 'a.attname COLLATE "C"' : 'a.attnum'})
   FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
     LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
   WHERE a.attrelid = ${relation} AND a.attnum > 0 AND NOT a.attisdropped)`;

const columnGrants = `(SELECT string_agg(ROW(a.attname, ${grants('a.attacl')})::text, ',' ORDER BY a.attname COLLATE "C")
   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped)`;

const relations = `SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, NULL::oid AS onrelid,
    ROW(c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, ${sorted('c.reloptions')},
      CASE WHEN c.relkind IN ('v', 'm') THEN ${expression('pg_get_viewdef(c.oid)')} END,
      pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
      (SELECT string_agg(h.inhparent::regclass::text, ',' ORDER BY h.inhparent::regclass::text COLLATE "C")
         FROM pg_inherits h WHERE h.inhrelid = c.oid),
      CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
      (SELECT am.amname FROM pg_am am WHERE am.oid = c.relam),
      (SELECT ROW(s.srvname, ${sorted('f.ftoptions')})::text FROM pg_foreign_table f
         JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
      ${columns('c.oid', 'attname')})::text AS definition,
    ROW(${access('r', 'c.relowner', 'c.relacl')}, ${columnGrants})::text AS access
  FROM ${ownRelation} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')`;

const sequences = `SELECT 'pg_class'::regclass, c.oid, NULL,
    ROW(format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
      (SELECT string_agg(ROW(d.refobjid::regclass, a.attname)::text, ',') FROM pg_depend d
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
           AND d.deptype IN ('a', 'i')))::text,
    ${access('s', 'c.relowner', 'c.relacl')}
  FROM ${ownRelation} JOIN pg_sequence s ON s.seqrelid = c.oid`;

/** Invalid ones are not dumped. */
const indexes = `SELECT 'pg_class'::regclass, x.indexrelid, x.indrelid,
    ROW(${expression('pg_get_indexdef(x.indexrelid)')}, x.indisclustered, x.indisreplident)::text, NULL
  FROM pg_index x JOIN ${ownRelation} ON c.oid = x.indrelid
  WHERE x.indisvalid OR c.relkind = 'p'`;

/** NOT NULL has a name of its own since 18, and is a column's. What a partition has from its parent has any name. */
const constraints = `SELECT 'pg_constraint'::regclass, k.oid, NULL,
    ${expression('pg_get_constraintdef(k.oid)')}, NULL
  FROM pg_constraint k LEFT JOIN ${ownRelation} ON c.oid = k.conrelid
  WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND NOT (k.contype = 'f' AND k.conparentid <> 0)
    AND (c.oid IS NOT NULL OR (k.contypid <> 0 AND ${inOwnSchema('k.connamespace')}
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = k.contypid
        AND d.deptype = 'e')))`;

/** Clones on partitions are the parent's (the column came with 13, internal ones before it). */
const triggers = `SELECT 'pg_trigger'::regclass, t.oid, NULL,
    ROW(${expression('pg_get_triggerdef(t.oid)')}, t.tgenabled)::text, NULL
  FROM pg_trigger t JOIN ${ownRelation} ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0'`;

const rules = `SELECT 'pg_rewrite'::regclass, w.oid, NULL,
    ROW(${expression('pg_get_ruledef(w.oid)')}, w.ev_enabled)::text, NULL
  FROM pg_rewrite w JOIN ${ownRelation} ON c.oid = w.ev_class WHERE w.rulename <> '_RETURN'`;

const policies = `SELECT 'pg_policy'::regclass, y.oid, NULL,
    ROW(y.polcmd, y.polpermissive,
      (SELECT string_agg(r.rolname, ',' ORDER BY r.rolname COLLATE "C") FROM pg_roles r WHERE r.oid = ANY (y.polroles)),
      ${expression('pg_get_expr(y.polqual, y.polrelid)')},
      ${expression('pg_get_expr(y.polwithcheck, y.polrelid)')})::text, NULL
  FROM pg_policy y JOIN ${ownRelation} ON c.oid = y.polrelid`;

/** A body that is kept as text is compared as it is; parsed ones came with 14. */
const functions = `SELECT 'pg_proc'::regclass, p.oid, NULL,
    ROW(l.lanname, p.prosrc, p.probin, ${expression('pg_get_function_arguments(p.oid)')},
      pg_get_function_result(p.oid), p.prokind, p.prosecdef, p.proleakproof, p.proisstrict, p.proretset,
      p.provolatile, p.proparallel, p.procost, p.prorows, p.prosupport, p.proconfig,
      CASE WHEN to_jsonb(p) ->> 'prosqlbody' IS NOT NULL THEN ${expression('pg_get_functiondef(p.oid)')} END,
      (SELECT ROW(to_jsonb(g) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' - 'aggsortop',
           format_type(g.aggtranstype, NULL), format_type(g.aggmtranstype, NULL), g.aggsortop::regoperator)::text
         FROM pg_aggregate g WHERE g.aggfnoid = p.oid))::text,
    ${access('f', 'p.proowner', 'p.proacl')}
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE ${inOwnSchema('p.pronamespace')}`;

/** Arrays, multiranges and the row types of tables go with what they are of. */
const types = `SELECT 'pg_type'::regclass, t.oid, NULL,
    ROW(t.typtype, t.typlen, t.typbyval, t.typcategory, t.typispreferred, t.typdelim, t.typalign, t.typstorage,
      t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typnotnull,
      CASE WHEN t.typbasetype <> 0 THEN format_type(t.typbasetype, t.typtypmod) END,
      CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL) END,
      ${expression('coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault)')}, ${collationName('t.typcollation')},
      (SELECT string_agg(quote_ident(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e
         WHERE e.enumtypid = t.oid),
      (SELECT ROW(format_type(r.rngsubtype, NULL), ${collationName('r.rngcollation')}, r.rngcanonical, r.rngsubdiff,
           (pg_identify_object('pg_opclass'::regclass, r.rngsubopc, 0)).identity)::text
         FROM pg_range r WHERE r.rngtypid = t.oid),
      CASE WHEN t.typtype = 'c' THEN ${columns('t.typrelid', 'attnum')} END)::text,
    ${access('T', 't.typowner', 't.typacl')}
  FROM pg_type t LEFT JOIN pg_class row_of ON row_of.oid = t.typrelid
  WHERE ${inOwnSchema('t.typnamespace')} AND t.typtype <> 'm' AND coalesce(row_of.relkind, 'c') = 'c'
    AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)`;

/** Row filters, column lists and whole schemas came with 15. */
const publications = (major: number): string => {
  const tableDetail =
    major < 15
      ? ''
      : `, ${expression('pg_get_expr(pr.prqual, pr.prrelid)')}, (SELECT string_agg(a.attname, ',' ORDER BY a.attname COLLATE "C")
           FROM pg_attribute a WHERE a.attrelid = pr.prrelid AND a.attnum = ANY (pr.prattrs::int2[]))`;
  const schemas =
    major < 15
      ? 'NULL'
      : `(SELECT string_agg(pn.pnnspid::regnamespace::text, ',' ORDER BY pn.pnnspid::regnamespace::text COLLATE "C")
          FROM pg_publication_namespace pn WHERE pn.pnpubid = p.oid)`;
  return `SELECT 'pg_publication'::regclass, p.oid, NULL,
    ROW(to_jsonb(p) - 'oid' - 'pubowner',
      (SELECT string_agg(m, ',' ORDER BY m COLLATE "C") FROM (
         SELECT ROW(pr.prrelid::regclass${tableDetail})::text AS m FROM pg_publication_rel pr WHERE pr.prpubid = p.oid
       ) members), ${schemas})::text,
    pg_get_userbyid(p.pubowner)
  FROM pg_publication p`;
};

const eventTriggers = `SELECT 'pg_event_trigger'::regclass, v.oid, NULL,
    ROW(v.evtevent, v.evtfoid::regproc, v.evtenabled, ${sorted('v.evttags')})::text, pg_get_userbyid(v.evtowner)
  FROM pg_event_trigger v`;

const casts = `SELECT 'pg_cast'::regclass, k.oid, NULL,
    ROW(k.castfunc::regprocedure, k.castcontext, k.castmethod)::text, NULL
  FROM pg_cast k WHERE ${notBuiltIn('k.oid')}`;

const operators = `SELECT 'pg_operator'::regclass, o.oid, NULL,
    ROW(format_type(o.oprresult, NULL), o.oprcode, o.oprrest, o.oprjoin, o.oprcom::regoperator,
      o.oprnegate::regoperator, o.oprcanmerge, o.oprcanhash)::text, pg_get_userbyid(o.oprowner)
  FROM pg_operator o WHERE ${inOwnSchema('o.oprnamespace')} AND o.oprcode <> 0`;

interface OtherCatalog {
  readonly catalog: string;
  /** Of the alias `x`. */
  readonly where: string;
  readonly definition?: string;
  readonly access?: string;
}

const inSchema = (catalog: string, prefix: string, definition?: string): OtherCatalog => ({
  catalog,
  where: inOwnSchema(`x.${prefix}namespace`),
  definition: definition ?? `''`,
});

/** Things that are rare, or have little to be altered. */
const others: readonly OtherCatalog[] = [
  {
    catalog: 'pg_namespace',
    where: `x.nspname !~ '^pg_' AND x.nspname <> 'information_schema'`,
    access: access('n', 'x.nspowner', 'x.nspacl'),
  },
  { catalog: 'pg_language', where: notBuiltIn('x.oid'), access: access('l', 'x.lanowner', 'x.lanacl') },
  { catalog: 'pg_transform', where: notBuiltIn('x.oid') },
  { catalog: 'pg_am', where: notBuiltIn('x.oid') },
  {
    catalog: 'pg_foreign_data_wrapper',
    where: 'true',
    definition: sorted('x.fdwoptions'),
    access: access('F', 'x.fdwowner', 'x.fdwacl'),
  },
  {
    catalog: 'pg_foreign_server',
    where: 'true',
    definition: `ROW(x.srvtype, x.srvversion, ${sorted('x.srvoptions')})::text`,
    access: access('S', 'x.srvowner', 'x.srvacl'),
  },
  { catalog: 'pg_default_acl', where: 'true', definition: grants('x.defaclacl') },
  inSchema('pg_statistic_ext', 'stx', expression('pg_get_statisticsobjdef(x.oid)')),
  inSchema('pg_collation', 'coll', 'ROW(x.collprovider, x.collcollate, x.collctype)::text'),
  inSchema('pg_conversion', 'con', 'x.conproc::text'),
  inSchema('pg_opclass', 'opc'),
  inSchema('pg_opfamily', 'opf'),
  inSchema('pg_ts_config', 'cfg'),
  inSchema('pg_ts_dict', 'dict', 'x.dictinitoption'),
  inSchema('pg_ts_parser', 'prs'),
  inSchema('pg_ts_template', 'tmpl'),
];

function otherObjects({ catalog, where, definition, access: who }: OtherCatalog): string {
  return `SELECT '${catalog}'::regclass, x.oid, NULL, ${definition ?? `''`}, ${who ?? 'NULL'}
    FROM ${catalog} x WHERE ${where}`;
}
