//! What a session made in its open transaction, as only its own upstream connection can see it.
//!
//! **Promise.** The query means the same under any search_path and role: every name and operator in it is qualified, so
//! nothing that the client made can stand in for a part of it.
//! **Also.** Besides temporary relations it shows only what the open transaction has made or changed, which it knows by the
//! exclusive lock that this takes. What others made is for the snapshot to tell, where the policy is bound to it: here it
//! would come without its masks. It takes no locks and changes nothing.
//! **Also.** A schema is shown as a relation of no name in it.
//! **Not covered.** Texts that the server deparses (defaults, CHECKs, expressions of indexes) come under the session's
//! search_path; a view's definition is left out for that reason: without one, nothing is proven from it. What is masked or filtered is
//! not made or changed here, so what only that asks for (calls of views, partition keys) is left out, too.

use std::collections::BTreeMap;

use super::load::{Interner, LoadError, Row, column, constraint, index, is_system_schema, view_dependency};
use super::names::{MAX_IDENTIFIER, PG_TEMP};
use super::{Name, Oid, Relation, RelationKind, Trigger, WrittenName};

/// Names in one query.
pub const MAX_NAMES: usize = 256;

/// The query for relations of these names, each (schema or any, name). `pg_temp` is the session's temporary schema.
pub fn overlay_query(names: &[WrittenName]) -> String {
    let mut wanted = String::new();
    // A longer name is cut in the server, and isn't looked for here.
    let fits = |text: &str| text.len() <= MAX_IDENTIFIER;
    let names = names.iter().filter(|(schema, name)| fits(name) && schema.as_deref().is_none_or(fits));
    for (schema, name) in names.take(MAX_NAMES) {
        let schema = schema.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        wanted.push_str(&format!("({schema}::pg_catalog.text, {}::pg_catalog.text), ", literal(name)));
    }
    // A row that matches nothing, so that the list is never empty: no relation is named by nothing.
    wanted.push_str("(NULL::pg_catalog.text, ''::pg_catalog.text)");
    QUERY.replace("$WANTED", &wanted)
}

/// As SQL, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

const QUERY: &str = r#"
WITH wanted (schema, name) AS (VALUES $WANTED),
locked AS MATERIALIZED (
  SELECT l.relation FROM pg_catalog.pg_locks l
  WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
    AND l.locktype OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text
    AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'::pg_catalog.text
    AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                           WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
),
found AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relkind, c.reltype, c.relrowsecurity, n.nspname,
         c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AS temporary
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE (c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
         OR (c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog."char"
             AND EXISTS (SELECT FROM locked l WHERE l.relation OPERATOR(pg_catalog.=) c.oid)))
    AND c.relkind OPERATOR(pg_catalog.<>) 't'::pg_catalog."char"
    AND EXISTS (SELECT FROM wanted w
                WHERE c.relname OPERATOR(pg_catalog.=) w.name::pg_catalog.name
                  AND (w.schema IS NULL OR n.nspname OPERATOR(pg_catalog.=) w.schema::pg_catalog.name
                       OR (w.schema OPERATOR(pg_catalog.=) 'pg_temp'::pg_catalog.text
                           AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())))
)
SELECT 'a' AS tag, f.oid::pg_catalog.text AS r,
       CASE WHEN f.temporary THEN 't' ELSE 'f' END AS a, f.nspname::pg_catalog.text AS b, f.relname::pg_catalog.text AS c,
       f.relkind::pg_catalog.text AS d, f.reltype::pg_catalog.text AS e,
       CASE WHEN f.relrowsecurity THEN 't' ELSE 'f' END AS f,
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class OPERATOR(pg_catalog.=) f.oid
                           AND w.rulename OPERATOR(pg_catalog.<>) '_RETURN'::pg_catalog.name) THEN 't' ELSE 'f' END AS g,
       (SELECT x.indrelid::pg_catalog.text FROM pg_catalog.pg_index x WHERE x.indexrelid OPERATOR(pg_catalog.=) f.oid) AS h,
       NULL::pg_catalog.text AS i, NULL::pg_catalog.text AS j
FROM found f
UNION ALL
SELECT 'a', n.oid::pg_catalog.text, 'f', n.nspname::pg_catalog.text, '', 'c', '0', 'f', 'f', NULL, NULL, NULL
FROM wanted w JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) w.schema::pg_catalog.name
WHERE w.name OPERATOR(pg_catalog.=) ''::pg_catalog.text
UNION ALL
SELECT 'b', a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text,
       a.atttypid::pg_catalog.text, a.atttypmod::pg_catalog.text,
       CASE WHEN n.nspname OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name
            THEN pg_catalog.format_type(a.atttypid, a.atttypmod)
            ELSE pg_catalog.concat(pg_catalog.quote_ident(n.nspname::pg_catalog.text), '.',
                   pg_catalog.quote_ident(coalesce(e.typname, t.typname)::pg_catalog.text),
                   CASE WHEN a.atttypmod OPERATOR(pg_catalog.>=) 0 THEN
                     pg_catalog.substring(pg_catalog.format_type(a.atttypid, a.atttypmod), '[(].*[)]'::pg_catalog.text) END,
                   CASE WHEN e.oid IS NOT NULL THEN '[]' END)
       END,
       a.attcollation::pg_catalog.text, CASE WHEN a.attnotnull THEN 't' ELSE 'f' END,
       a.attgenerated::pg_catalog.text, a.attidentity::pg_catalog.text, coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid),
         CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char" AND a.attidentity OPERATOR(pg_catalog.=) ''::pg_catalog."char"
              THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid) END)
FROM found f JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.oid
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
LEFT JOIN pg_catalog.pg_type e ON e.oid OPERATOR(pg_catalog.=) t.typelem
  AND t.typcategory OPERATOR(pg_catalog.=) 'A'::pg_catalog."char"
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) coalesce(e.typnamespace, t.typnamespace)
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
  AND d.adnum OPERATOR(pg_catalog.=) a.attnum
WHERE a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped
  AND f.relkind OPERATOR(pg_catalog.<>) 'i'::pg_catalog."char"
  AND f.relkind OPERATOR(pg_catalog.<>) 'I'::pg_catalog."char"
UNION ALL
SELECT 'c', x.indrelid::pg_catalog.text, x.indexrelid::pg_catalog.text, i.relname::pg_catalog.text,
       CASE WHEN x.indisunique THEN 't' ELSE 'f' END, CASE WHEN x.indisprimary THEN 't' ELSE 'f' END,
       CASE WHEN x.indisvalid AND x.indisready AND x.indislive AND x.indimmediate AND NOT x.indisexclusion
              AND NOT EXISTS (SELECT FROM pg_catalog.unnest(x.indclass::pg_catalog.oid[]) k (class)
                              JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) k.class
                              WHERE NOT o.opcdefault AND o.opcnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid)
              AND NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(x.indkey::pg_catalog.int2[]),
                                                     pg_catalog.unnest(x.indcollation::pg_catalog.oid[])) k (att, coll)
                              JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) x.indrelid
                                AND a.attnum OPERATOR(pg_catalog.=) k.att
                              JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation
                              WHERE a.attcollation OPERATOR(pg_catalog.<>) k.coll AND NOT l.collisdeterministic)
            THEN 't' ELSE 'f' END,
       x.indnkeyatts::pg_catalog.text, x.indkey::pg_catalog.text, pg_catalog.pg_get_expr(x.indexprs, x.indrelid),
       pg_catalog.pg_get_expr(x.indpred, x.indrelid),
       (SELECT pg_catalog.string_agg(d.refobjsubid::pg_catalog.text, ' '::pg_catalog.text) FROM pg_catalog.pg_depend d
        WHERE d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) x.indexrelid
          AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) x.indrelid
          AND d.refobjsubid OPERATOR(pg_catalog.>) 0
          AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL))
FROM found f JOIN pg_catalog.pg_index x ON x.indrelid OPERATOR(pg_catalog.=) f.oid
JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid
UNION ALL
SELECT 'd', k.conrelid::pg_catalog.text, k.contype::pg_catalog.text, k.conname::pg_catalog.text,
       pg_catalog.array_to_string(k.conkey, ' '::pg_catalog.text), pg_catalog.pg_get_expr(k.conbin, k.conrelid),
       k.confrelid::pg_catalog.text, pg_catalog.array_to_string(k.confkey, ' '::pg_catalog.text),
       k.confdeltype::pg_catalog.text, k.confupdtype::pg_catalog.text, NULL, NULL
FROM found f JOIN pg_catalog.pg_constraint k ON k.conrelid OPERATOR(pg_catalog.=) f.oid
WHERE k.contype OPERATOR(pg_catalog.=) 'c'::pg_catalog."char" OR k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char"
UNION ALL
SELECT 'e', t.tgrelid::pg_catalog.text, t.tgname::pg_catalog.text, t.tgfoid::pg_catalog.text, t.tgtype::pg_catalog.text,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found f JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) f.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'f', h.inhrelid::pg_catalog.text, h.inhparent::pg_catalog.text,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found f JOIN pg_catalog.pg_inherits h ON h.inhrelid OPERATOR(pg_catalog.=) f.oid
UNION ALL
SELECT 'g', h.inhparent::pg_catalog.text, h.inhrelid::pg_catalog.text,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found f JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) f.oid
UNION ALL
SELECT DISTINCT 'h', w.ev_class::pg_catalog.text, d.refobjid::pg_catalog.text, d.refobjsubid::pg_catalog.text,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found f JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) f.oid
  AND w.rulename OPERATOR(pg_catalog.=) '_RETURN'::pg_catalog.name
JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
  AND d.objid OPERATOR(pg_catalog.=) w.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
WHERE d.refobjid OPERATOR(pg_catalog.<>) w.ev_class
UNION ALL
SELECT 'i', d.objid::pg_catalog.text, d.refobjid::pg_catalog.text, d.refobjsubid::pg_catalog.text,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found f JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
  AND d.objid OPERATOR(pg_catalog.=) f.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
WHERE f.relkind OPERATOR(pg_catalog.=) 'S'::pg_catalog."char" AND d.refobjsubid OPERATOR(pg_catalog.>) 0
  AND (d.deptype OPERATOR(pg_catalog.=) 'a'::pg_catalog."char" OR d.deptype OPERATOR(pg_catalog.=) 'i'::pg_catalog."char")
ORDER BY 1, 2, 3"#;

/// The relations in the answer to [`overlay_query`]; temporary ones have the schema `pg_temp`.
pub fn decode_overlay(rows: &[Vec<Option<String>>]) -> Result<Vec<Relation>, LoadError> {
    const ABOUT: &str = "what the session made";
    let mut names = Interner::default();
    let mut relations: BTreeMap<Oid, Relation> = BTreeMap::new();
    for row in rows {
        let fields: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
        let mut row = Row::new(ABOUT, &fields);
        let tag = row.text()?;
        let oid: Oid = row.number()?;
        if tag == "a" {
            if let Some(relation) = relation(&mut names, oid, &mut row)? {
                relations.insert(oid, relation);
            }
            continue;
        }
        let Some(relation) = relations.get_mut(&oid) else { continue };
        match tag {
            "b" => relation.columns.push(column(&mut names, &mut row)?),
            "c" => relation.indexes.push(index(&mut names, &relation.columns, &mut row)?),
            "d" => constraint(&mut names, relation, &mut row)?,
            "e" => relation.triggers.push(Trigger {
                name: names.name(row.text()?),
                function: row.number()?,
                kind: row.number()?,
            }),
            "f" => relation.parents.push(row.number()?),
            "g" => relation.children.push(row.number()?),
            "h" => view_dependency(relation, &mut row)?,
            "i" => relation.owned_by = Some((row.number()?, row.number()?)),
            _ => return Err(LoadError::Answer(ABOUT)),
        }
    }
    let mut relations: Vec<Relation> = relations.into_values().collect();
    for relation in &mut relations {
        relation.columns.sort_by_key(|column| column.number);
    }
    Ok(relations)
}

fn relation(names: &mut Interner, oid: Oid, row: &mut Row<'_>) -> Result<Option<Relation>, LoadError> {
    let temporary = row.flag()?;
    let schema = row.text()?;
    let schema: Name = if temporary { PG_TEMP.into() } else { names.name(schema) };
    let name = names.name(row.text()?);
    let Some(kind) = RelationKind::from_code(row.code()?) else { return Ok(None) };
    Ok(Some(Relation {
        oid,
        system: is_system_schema(&schema),
        schema,
        name,
        kind,
        temporary,
        columns: Vec::new(),
        row_type: row.number()?,
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        row_security: row.flag()?,
        has_rules: row.flag()?,
        parents: Vec::new(),
        children: Vec::new(),
        definition: None,
        depends_on: Vec::new(),
        calls: Vec::new(),
        check_option: false,
        partition_key: Vec::new(),
        owned_by: row.optional()?.and_then(|oid| oid.parse().ok()).map(|oid| (oid, 0)),
        extension: None,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_operator_of_the_query_is_qualified() {
        let sql = overlay_query(&[(Some("a".into()), "b".into())]);
        let scanned = pg_query::scan(&sql).expect("it scans");
        let tokens: Vec<&str> =
            scanned.tokens.iter().filter_map(|token| sql.get(token.start as usize..token.end as usize)).collect();
        for (index, token) in tokens.iter().enumerate() {
            if matches!(*token, "=" | "<>" | ">" | ">=" | "<" | "||") {
                let before: Vec<&&str> = tokens.iter().take(index).rev().take(4).collect();
                assert_eq!(before, [&".", &"pg_catalog", &"(", &"OPERATOR"], "operator {token} near token {index}");
            }
            assert!(!token.eq_ignore_ascii_case("in") && !token.eq_ignore_ascii_case("like"), "hides an operator");
        }
        pg_query::parse(&sql, 0).expect("it parses");
    }

    #[test]
    fn a_name_can_not_leave_its_quotes() {
        for name in ["'", "\\", "\\'", "a'); DROP TABLE x; --", "é''\\\\'"] {
            let sql = overlay_query(&[(Some(name.into()), name.into())]);
            let parsed = pg_query::parse(&sql, 0).expect("it parses");
            assert_eq!(parsed.protobuf.stmts.len(), 1, "{name}");
            assert!(format!("{:?}", parsed.protobuf).contains(&format!("{name:?}")), "{name} is there as it is");
        }
    }
}
