//! Statements, and cases of several.

use super::query::Query;
use super::tree::{Sql, sql};
use super::{Generator, Item, TABLES, Type};

/// A statement of a case.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) sql: Sql,
    /// Whether its rows have one order.
    pub(crate) is_ordered: bool,
    /// Whether its rows tell of more than what it read: a plan.
    pub(crate) is_plan: bool,
    /// Types and values of its parameters; with any, it goes by the extended protocol.
    pub(crate) parameters: Vec<(u32, String)>,
}

/// What is sent within one transaction, which is rolled back.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What kind of statement it is about.
    pub(crate) kind: &'static str,
    /// Whether every step goes by the extended protocol.
    pub(crate) is_extended: bool,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    /// All cases that are one step smaller.
    pub(crate) fn smaller(&self) -> impl Iterator<Item = Case> + '_ {
        (0..self.steps.len()).flat_map(move |at| {
            let shorter = (self.steps.len() > 1).then(|| {
                let mut less = self.clone();
                less.steps.remove(at);
                less
            });
            let smaller = self.steps[at].sql.smaller().map(move |smaller| {
                let mut less = self.clone();
                less.steps[at].sql = smaller;
                less
            });
            shorter.into_iter().chain(smaller)
        })
    }
}

impl Step {
    pub(crate) fn new(sql: Sql) -> Self {
        Self { sql, is_ordered: false, is_plan: false, parameters: Vec::new() }
    }

    fn ordered(sql: Sql, is_ordered: bool) -> Self {
        Self { is_ordered, ..Self::new(sql) }
    }
}

/// A table that is written to, what may be stored in each column, and which columns a condition may read.
struct Target {
    table: usize,
    /// Masked columns take only what is a mask already, so that what is stored reads the same on the twin.
    values: &'static [(&'static str, &'static [&'static str])],
    plain: &'static [&'static str],
}

const TARGETS: [Target; 5] = [
    Target {
        table: 0,
        values: &[
            ("name", &["'Zoe'", "'**********0001'"]),
            ("email", &["'m***@example.com'", "NULL"]),
            ("card", &["'**********0009'"]),
            ("note", &["'***'", "NULL"]),
            ("birth", &["date '1937-01-01'"]),
            ("seen", &["timestamptz '2021-06-15 13:00:00+00'"]),
            ("balance", &["918000", "0"]),
            ("region", &["'eu'", "'us'"]),
            ("visits", &["3", "0"]),
            ("active", &["true", "NULL"]),
            ("joined", &["date '2020-02-05'"]),
        ],
        plain: &["id", "name", "region", "visits", "active", "joined"],
    },
    Target {
        table: 1,
        values: &[
            ("customer_id", &["1", "2", "NULL"]),
            ("region", &["'eu'"]),
            ("item", &["'apple'", "'pear'"]),
            ("amount", &["10", "5"]),
            ("placed", &["timestamptz '2022-03-02 05:00:00+00'"]),
        ],
        plain: &["id", "customer_id", "region", "item", "amount", "placed"],
    },
    Target {
        table: 2,
        values: &[
            ("parent", &["1", "2", "NULL"]),
            ("body", &["'new'", "NULL"]),
            ("kind", &["'a'", "'c'"]),
            ("amount", &["7.25"]),
            ("made", &["date '1937-01-01'"]),
            ("doc", &["'{\"k\": 1}'"]),
            ("tags", &["'{x}'"]),
            ("done", &["true"]),
        ],
        plain: &["id", "parent", "body", "kind", "amount", "made", "doc", "tags", "done"],
    },
    Target { table: 3, values: &[("name", &["'Q'"]), ("phone", &["'***'", "NULL"])], plain: &["id", "name"] },
    Target {
        table: 7,
        values: &[
            ("order_id", &["3", "4"]),
            ("stage", &["'open'", "'shut'"]),
            ("item", &["'P****'"]),
            ("weight", &["1.25"]),
        ],
        plain: &["id", "order_id", "stage", "weight"],
    },
];

impl Generator {
    /// A case.
    pub(crate) fn case(mut self) -> Case {
        let kind = self.random.below(100);
        let is_extended = self.chance(35);
        let (kind, steps) = match kind {
            0..=58 => ("select", vec![self.top_query()]),
            59..=61 => ("star", vec![self.star()]),
            62..=64 => ("cursor", self.cursor()),
            65..=67 => ("prepare", self.prepared()),
            68..=70 => ("copy", vec![self.copy()]),
            71..=73 => ("explain", vec![self.explain()]),
            74..=76 => ("table as", self.table_as()),
            77..=78 => ("lock", vec![self.locking()]),
            79..=84 => ("insert", self.insert()),
            85..=90 => ("update", self.update()),
            91..=94 => ("delete", self.delete()),
            95..=97 => ("merge", self.merge()),
            _ => ("writing cte", self.writing_cte()),
        };
        Case { kind, is_extended, steps }
    }

    /// A query with its order, if it has one.
    fn ordered_query(&mut self, depth: usize) -> (Sql, bool) {
        let Query { sql, columns } = self.query(depth, None);
        if !self.chance(35) {
            return (sql, false);
        }
        let mut by: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
        self.random.shuffle(&mut by);
        if self.wild {
            by.truncate(1);
        }
        let by: Vec<Sql> = by.into_iter().map(|at| sql!(at, self.word(&["", " DESC", " NULLS FIRST"]))).collect();
        let limit = if self.chance(50) {
            sql!(self.word(&[
                " LIMIT 5",
                " LIMIT 3 OFFSET 1",
                " OFFSET 2",
                " FETCH FIRST 2 ROWS WITH TIES",
                " LIMIT ALL"
            ]))
            .optional()
        } else {
            Sql::empty()
        };
        (sql!(sql, " ORDER BY ", Sql::fixed(&by), limit), true)
    }

    fn top_query(&mut self) -> Step {
        if self.chance(25) {
            self.parameters = Some(Vec::new());
        }
        let depth = 1 + self.random.below(3);
        let (sql, is_ordered) = self.ordered_query(depth);
        Step { parameters: self.parameters.take().unwrap_or_default(), ..Step::ordered(sql, is_ordered) }
    }

    /// Stars and whole rows.
    fn star(&mut self) -> Step {
        let from = self.from(1);
        let alias = self.random.pick(&self.scope).alias.clone();
        let targets = match self.random.below(5) {
            0 => sql!("*"),
            1 => sql!(alias, ".*"),
            2 => sql!(alias),
            3 => sql!("(", alias, ").*"),
            _ => sql!("*, ", self.expression(Type::Text, 1)),
        };
        let condition = sql!(" WHERE ", self.condition(1)).optional();
        if self.chance(15) {
            let at = self.random.below(TABLES.len());
            return Step::new(sql!("TABLE ", TABLES[at].name));
        }
        Step::new(sql!("SELECT ", targets, " FROM ", from, condition))
    }

    fn cursor(&mut self) -> Vec<Step> {
        let (query, is_ordered) = self.ordered_query(2);
        let scroll = self.word(&["", "NO SCROLL ", "BINARY "]);
        let mut steps = vec![Step::new(sql!("DECLARE k ", scroll, "CURSOR FOR ", query))];
        if is_ordered {
            steps.push(Step::ordered(sql!("FETCH 2 FROM k"), true));
            steps.push(Step::new(sql!("MOVE 1 IN k")));
        }
        steps.push(Step::ordered(sql!("FETCH ALL FROM k"), is_ordered));
        steps.push(Step::new(sql!("CLOSE k")));
        steps
    }

    fn prepared(&mut self) -> Vec<Step> {
        let (query, is_ordered) = self.ordered_query(2);
        let execute = Step::ordered(sql!("EXECUTE p"), is_ordered);
        vec![Step::new(sql!("PREPARE p AS ", query)), execute.clone(), execute, Step::new(sql!("DEALLOCATE p"))]
    }

    fn copy(&mut self) -> Step {
        let (query, is_ordered) = self.ordered_query(2);
        let form = self.word(&["", " (FORMAT csv, HEADER)", " WITH (DELIMITER '|', NULL 'none')"]);
        Step::ordered(sql!("COPY (", query, ") TO STDOUT", form), is_ordered)
    }

    fn explain(&mut self) -> Step {
        let (query, _) = self.ordered_query(2);
        let form =
            self.word(&["EXPLAIN (COSTS OFF) ", "EXPLAIN (COSTS OFF, VERBOSE) ", "EXPLAIN (COSTS OFF, FORMAT JSON) "]);
        Step { is_plan: true, ..Step::new(sql!(form, query)) }
    }

    fn table_as(&mut self) -> Vec<Step> {
        let Query { sql, .. } = self.query(2, None);
        vec![Step::new(sql!("CREATE TEMP TABLE made AS ", sql)), Step::new(sql!("SELECT * FROM made"))]
    }

    fn locking(&mut self) -> Step {
        let (from, item) = self.written_table();
        let key = item.key[0].clone();
        self.scope.push(item);
        let target = self.expression(Type::Text, 1);
        let condition = self.condition(1);
        let lock = self.word(&["UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE", "UPDATE NOWAIT", "SHARE SKIP LOCKED"]);
        Step::new(sql!(
            "SELECT ",
            key,
            ", ",
            target,
            " FROM ",
            from,
            sql!(" WHERE ", condition).optional(),
            " FOR ",
            lock
        ))
    }

    fn written_table(&mut self) -> (Sql, Item) {
        let target = self.target();
        let alias = TABLES[target.table].name;
        (alias.into(), self.target_item(target))
    }

    fn target(&mut self) -> &'static Target {
        &TARGETS[self.random.below(TARGETS.len())]
    }

    /// The table that is written to, as its own alias.
    fn target_item(&mut self, target: &Target) -> Item {
        let table = &TABLES[target.table];
        Item {
            alias: table.name.to_owned(),
            columns: table.columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
            key: vec!["id".to_owned()],
            is_table: true,
            is_row: true,
        }
    }

    /// A condition on unmasked columns, or on any where the key is pinned: what a write may have.
    fn write_condition(&mut self, target: &Target) -> Sql {
        let table = TABLES[target.table].name;
        let item = self.target_item(target);
        let id = self.random.below(14);
        if self.wild || self.chance(40) {
            let more = self.with_scope(vec![item], |this| this.condition(1));
            if self.wild && self.chance(50) {
                return more;
            }
            return sql!(table, format!(".id = {id}"), sql!(" AND ", more).optional());
        }
        let plain = Item {
            columns: item.columns.iter().filter(|(name, _)| target.plain.contains(&name.as_str())).cloned().collect(),
            ..item
        };
        // A whole row is masked columns, too: so nothing names the alias alone.
        self.with_scope(vec![plain], |this| this.plain_condition())
    }

    /// A condition that names no whole row.
    fn plain_condition(&mut self) -> Sql {
        let of = *self.random.pick(&[Type::Int, Type::Text, Type::Int]);
        let operator = self.word(&[" = ", " < ", " > ", " <> ", " >= "]);
        let column = self.column(of).unwrap_or_else(|| "1".into());
        let other = match of {
            Type::Int if self.chance(20) => sql!("(SELECT max(n.id) FROM notes n WHERE n.id < 9)"),
            _ => self.literal(of),
        };
        sql!(column, operator, other)
    }

    fn returning(&mut self, item: Item) -> Sql {
        if !self.chance(60) {
            return Sql::empty();
        }
        let list = match self.random.below(4) {
            0 => sql!("*"),
            1 => sql!(item.alias.as_str(), ".*, 1 AS one"),
            _ => self.with_scope(vec![item], |this| {
                let types = this.types(3);
                let all: Vec<Sql> = types.iter().map(|of| this.expression(*of, 1)).collect();
                Sql::list(all)
            }),
        };
        sql!(" RETURNING ", list).optional()
    }

    /// What the table holds afterwards.
    fn look(&mut self, target: &Target) -> Step {
        Step::new(sql!("SELECT * FROM ", TABLES[target.table].name))
    }

    /// Columns and constants for them.
    fn assigned(&mut self, target: &Target, most: usize) -> Vec<(&'static str, Sql)> {
        let mut all: Vec<_> = target.values.iter().collect();
        self.random.shuffle(&mut all);
        all.truncate(1 + self.random.below(most));
        all.into_iter().map(|(name, values)| (*name, Sql::from(*self.random.pick(values)))).collect()
    }

    fn insert(&mut self) -> Vec<Step> {
        let target = self.target();
        let table = TABLES[target.table].name;
        let item = self.target_item(target);
        let id = 100 + self.random.below(9);
        let sql = if target.table == 2 && self.chance(60) {
            // What is read elsewhere ends up in a plain table.
            let Query { sql, .. } =
                self.query(2, Some(&[Type::Text, Type::Numeric, Type::Date, Type::Json, Type::Texts]));
            sql!(
                "INSERT INTO notes (id, kind, body, amount, made, doc, tags) SELECT ",
                format!("{id} + (row_number() OVER (ORDER BY q.*))::int, 'q', q.* FROM ("),
                sql,
                ") AS q"
            )
        } else {
            let mut columns: Vec<(&str, Sql)> =
                target.values.iter().map(|(name, values)| (*name, (*self.random.pick(values)).into())).collect();
            columns.insert(0, ("id", sql!(id.to_string())));
            let names: Vec<Sql> = columns.iter().map(|(name, _)| (*name).into()).collect();
            let values: Vec<Sql> = columns.into_iter().map(|(_, value)| value).collect();
            sql!("INSERT INTO ", table, " (", Sql::fixed(&names), ") VALUES (", Sql::fixed(&values), ")")
        };
        let conflict = match self.random.below(6) {
            0 => sql!(" ON CONFLICT DO NOTHING").optional(),
            1 => sql!(" ON CONFLICT (id) DO NOTHING").optional(),
            2 | 3 => {
                let set = self.set_list(target, 2);
                sql!(" ON CONFLICT (id) DO UPDATE SET ", set).optional()
            }
            _ => Sql::empty(),
        };
        let returning = self.returning(item);
        let insert = Step::new(sql!(sql, conflict, returning));
        let mut steps = vec![insert.clone()];
        if self.chance(40) {
            steps.push(insert);
        }
        steps.push(self.look(target));
        steps
    }

    fn set_list(&mut self, target: &Target, most: usize) -> Sql {
        let item = self.target_item(target);
        let assigned = self.assigned(target, most);
        let mut all = Vec::new();
        for (name, constant) in assigned {
            let of = item.columns.iter().find(|(have, _)| have == name).map(|(_, of)| *of);
            // An unmasked column may take what is shown of any other.
            let value = match of {
                Some(of) if target.plain.contains(&name) && name != "region" && name != "stage" && self.chance(50) => {
                    let value = self.with_scope(vec![item.clone()], |this| this.expression(of, 1));
                    sql!("coalesce(", value, ", ", &constant, ")").or([constant])
                }
                _ if self.chance(10) => sql!(item.alias.as_str(), ".", name).or([constant]),
                _ => constant,
            };
            all.push(sql!(name, " = ", value));
        }
        Sql::list(all)
    }

    fn update(&mut self) -> Vec<Step> {
        let target = self.target();
        let table = TABLES[target.table].name;
        let set = self.set_list(target, 3);
        let condition = self.write_condition(target);
        let (from, condition) = if self.chance(25) {
            (sql!(" FROM notes AS o"), sql!("o.id = ", table, ".id AND ", condition))
        } else {
            (Sql::empty(), condition)
        };
        let item = self.target_item(target);
        let returning = self.returning(item);
        let only = if self.chance(5) { "ONLY " } else { "" };
        let update = sql!("UPDATE ", only, table, " SET ", set, from, sql!(" WHERE ", condition).optional(), returning);
        vec![Step::new(update), self.look(target)]
    }

    fn delete(&mut self) -> Vec<Step> {
        let target = self.target();
        let table = TABLES[target.table].name;
        let condition = self.write_condition(target);
        let (using, condition) = if self.chance(25) {
            (sql!(" USING customers AS o"), sql!("o.id = ", table, ".id AND o.card LIKE '%1' AND ", condition))
        } else {
            (Sql::empty(), condition)
        };
        let item = self.target_item(target);
        let returning = self.returning(item);
        let delete = sql!("DELETE FROM ", table, using, sql!(" WHERE ", condition).optional(), returning);
        vec![Step::new(delete), self.look(target)]
    }

    fn merge(&mut self) -> Vec<Step> {
        let target = &TARGETS[*self.random.pick(&[1, 2, 2])];
        let table = TABLES[target.table].name;
        let set = self.set_list(target, 2);
        let source = self.word(&[
            "customers",
            "customer_view",
            "order_view",
            "(SELECT id, upper(name) AS n FROM customers WHERE visits > 0)",
        ]);
        let matched = match self.random.below(3) {
            0 => sql!(" WHEN MATCHED THEN DELETE").optional(),
            1 => sql!(" WHEN MATCHED AND ", table, ".id > 3 THEN UPDATE SET ", set).optional(),
            _ => sql!(" WHEN MATCHED THEN UPDATE SET ", set).optional(),
        };
        let insert = if target.table == 2 {
            sql!(
                " WHEN NOT MATCHED THEN INSERT (id, kind, body) VALUES (s.id + 200, 'm', ",
                self.word(&["s::text", "'x'", "s.id::text"]),
                ")"
            )
            .optional()
        } else {
            sql!(" WHEN NOT MATCHED THEN DO NOTHING").optional()
        };
        let merge = sql!("MERGE INTO ", table, " USING ", source, " AS s ON s.id = ", table, ".id", matched, insert);
        vec![Step::new(merge), self.look(target)]
    }

    fn writing_cte(&mut self) -> Vec<Step> {
        let target = &TARGETS[1 + self.random.below(2)];
        let table = TABLES[target.table].name;
        let condition = self.write_condition(target);
        let write = match self.random.below(2) {
            0 => sql!("DELETE FROM ", table, " WHERE ", condition, " RETURNING *"),
            _ => sql!("UPDATE ", table, " SET ", self.set_list(target, 2), " WHERE ", condition, " RETURNING *"),
        };
        let mut item = self.target_item(target);
        item.alias = "c".to_owned();
        let target_list = self.with_scope(vec![item], |this| this.expression(Type::Text, 1));
        let select = sql!("SELECT c.id, ", target_list, " FROM d AS c LEFT JOIN customers AS o ON o.id = c.id");
        vec![Step::new(sql!("WITH d AS (", write, ") ", select)), self.look(target)]
    }
}
