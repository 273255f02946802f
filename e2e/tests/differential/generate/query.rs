//! Queries: what stands in FROM, and what is selected of it.

use super::tree::{Sql, sql};
use super::{Generator, Item, TABLES, Type};

/// A query without ORDER BY and LIMIT of its own, so that both can be put behind it.
pub(super) struct Query {
    pub(super) sql: Sql,
    pub(super) columns: Vec<(String, Type)>,
}

impl Generator {
    /// A query of these types, or of some.
    pub(super) fn query(&mut self, depth: usize, wanted: Option<&[Type]>) -> Query {
        let types = wanted.map_or_else(|| self.types(4), <[Type]>::to_vec);
        let ctes = self.ctes.len();
        let with = if depth > 0 && self.chance(15) { self.with(depth - 1) } else { Sql::empty() };
        let mut query = self.select(depth, &types);
        if depth > 0 && self.chance(12) {
            let other = self.select(depth - 1, &types);
            let operator =
                self.word(&[" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " EXCEPT ALL ", " INTERSECT ALL "]);
            query.sql = sql!(&query.sql, operator, other.sql).or([query.sql]);
        }
        self.ctes.truncate(ctes);
        query.sql = sql!(with, query.sql);
        query
    }

    /// `WITH …`, whose names are visible from then on.
    fn with(&mut self, depth: usize) -> Sql {
        let name = self.name("w");
        let is_recursive = self.chance(20);
        if is_recursive {
            let start = self.with_scope(Vec::new(), |this| this.select(0, &[Type::Int, Type::Text]));
            let body = sql!("SELECT n + 1, left(t || 'x', 20) FROM ", &*name, " WHERE n < 3");
            self.ctes.push(item(&name, vec![("n".into(), Type::Int), ("t".into(), Type::Text)]));
            let start = sql!("SELECT least(coalesce(a, 0), 5), b FROM (", start.sql, ") AS s (a, b) WHERE a > -5");
            return sql!("WITH RECURSIVE ", name, " (n, t) AS (", start, " UNION ", body, ") ").optional();
        }
        // A CTE of a sub-select may name what is around it.
        let inner = self.query(depth, None);
        let fence = self.word(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
        self.ctes.push(item(&name, inner.columns));
        sql!("WITH ", name, " AS ", fence, "(", inner.sql, ") ").optional()
    }

    /// A SELECT of these types.
    fn select(&mut self, depth: usize, types: &[Type]) -> Query {
        if self.chance(4) {
            return self.values(types);
        }
        let own = self.scope.len();
        let was_bare = std::mem::take(&mut self.is_bare);
        let from = self.from(depth);
        self.is_bare = self.scope.len() == 1;
        let condition =
            if self.chance(60) { sql!(" WHERE ", self.condition(depth.min(2))).optional() } else { Sql::empty() };
        let (head, targets, tail) = match self.random.below(10) {
            0 | 1 => self.grouped(types, own),
            2 => self.grouped_by_key(types, own),
            3 => {
                let targets = types.iter().map(|of| self.window(*of, own)).collect();
                ("", targets, Sql::empty())
            }
            _ => {
                let targets = types.iter().map(|of| self.expression(*of, depth.min(2))).collect();
                (self.word(&["", "", "", "", "DISTINCT ", "ALL "]), targets, Sql::empty())
            }
        };
        let columns: Vec<(String, Type)> = types.iter().map(|of| (self.name("x"), *of)).collect();
        let targets: Vec<Sql> =
            targets.into_iter().zip(&columns).map(|(target, (name, _))| sql!(target, " AS ", name.as_str())).collect();
        self.scope.truncate(own);
        self.is_bare = was_bare;
        Query { sql: sql!("SELECT ", head, Sql::fixed(&targets), " FROM ", from, condition, tail), columns }
    }

    fn values(&mut self, types: &[Type]) -> Query {
        let rows = (0..2).map(|_| {
            let row: Vec<Sql> = types.iter().map(|of| self.expression(*of, 1)).collect();
            sql!("(", Sql::fixed(&row), ")")
        });
        let rows: Vec<Sql> = rows.collect();
        let columns = types.iter().enumerate().map(|(at, of)| (format!("column{}", at + 1), *of)).collect();
        Query { sql: sql!("VALUES ", Sql::list(rows)), columns }
    }

    /// Aggregates and what they are grouped by.
    fn grouped(&mut self, types: &[Type], own: usize) -> (&'static str, Vec<Sql>, Sql) {
        let mut groups: Vec<(Type, Sql)> = Vec::new();
        for _ in 0..self.random.below(3) {
            let of = *self.random.pick(&Type::ALL);
            if let Some(column) = self.own_column(of, own) {
                let group = if of == Type::Text && self.chance(40) { sql!("lower(", column, ")") } else { column };
                groups.push((of, group));
            }
        }
        let mut target = |of: Type| {
            let found: Vec<&Sql> = groups.iter().filter(|(have, _)| *have == of).map(|(_, group)| group).collect();
            match found.first() {
                Some(group) if self.random.chance(70) => (*group).clone(),
                _ => self.aggregate(of, own),
            }
        };
        let targets = types.iter().map(|of| target(*of)).collect();
        let having =
            if self.chance(25) { sql!(" HAVING ", self.aggregate(Type::Bool, own)).optional() } else { Sql::empty() };
        let by: Vec<Sql> = groups.into_iter().map(|(_, group)| group).collect();
        let tail = match by.len() {
            0 => having,
            2 if self.chance(30) => {
                let sets = self.word(&["ROLLUP (", "CUBE (", "GROUPING SETS (()"]);
                let comma = if sets.ends_with("()") { ", " } else { "" };
                sql!(" GROUP BY ", sets, comma, Sql::fixed(&by), ")", having)
            }
            _ => sql!(" GROUP BY ", Sql::fixed(&by), having),
        };
        ("", targets, tail)
    }

    /// A table's columns by its key.
    fn grouped_by_key(&mut self, types: &[Type], own: usize) -> (&'static str, Vec<Sql>, Sql) {
        let Some(item) = self.scope[own..].iter().find(|item| item.is_table).cloned() else {
            return self.grouped(types, own);
        };
        let by = Sql::Text(format!("{}.{}", item.alias, item.key[0]));
        let only = vec![item];
        let mut targets = Vec::new();
        for of in types {
            targets.push(if self.chance(60) {
                let plain = only.clone();
                self.with_scope(plain, |this| this.column(*of).unwrap_or_else(|| this.aggregate_of_constants(*of)))
            } else {
                self.aggregate(*of, own)
            });
        }
        ("", targets, sql!(" GROUP BY ", by))
    }

    fn aggregate_of_constants(&mut self, of: Type) -> Sql {
        self.with_scope(Vec::new(), |this| this.literal(of))
    }

    /// A column of this query's own FROM.
    fn own_column(&mut self, of: Type, own: usize) -> Option<Sql> {
        let items = self.scope[own..].to_vec();
        self.with_scope(items, |this| this.column(of))
    }

    /// A FROM clause, whose items are in scope from then on.
    pub(super) fn from(&mut self, depth: usize) -> Sql {
        let own = self.scope.len();
        let (mut sql, first) = self.item(depth, own, false);
        self.scope.push(first);
        for _ in 0..[0, 0, 1, 1, 2][self.random.below(5)] {
            let is_lateral = depth > 0 && self.chance(20);
            let (next, item) = self.item(depth.saturating_sub(1), own, is_lateral);
            let alias = item.alias.clone();
            let left = self.scope[own..].to_vec();
            self.scope.push(item);
            let join = self.random.below(if is_lateral { 4 } else { 7 });
            sql = match join {
                0 => sql!(&sql, sql!(" CROSS JOIN ", next).optional()),
                1..=3 => {
                    let on = self.join_condition(&left, &alias);
                    sql!(&sql, sql!(self.word(&[" JOIN ", " LEFT JOIN "]), next, " ON ", on).optional())
                }
                4 => sql!(
                    &sql,
                    sql!(self.word(&[" RIGHT JOIN ", " FULL JOIN "]), next, " ON ", self.equality(&left, &alias))
                        .optional()
                ),
                _ => match self.common_column(&left, &alias) {
                    Some(name) => {
                        let join = self.word(&[" JOIN ", " LEFT JOIN ", " FULL JOIN "]);
                        sql!(&sql, sql!(join, next, " USING (", name, ")").optional())
                    }
                    None => sql!(&sql, sql!(" JOIN ", next, " ON ", self.join_condition(&left, &alias)).optional()),
                },
            };
        }
        if self.chance(8) {
            let (next, item) = self.item(0, own, false);
            self.scope.push(item);
            sql = sql!(&sql, sql!(", ", next).optional());
        }
        sql
    }

    /// A column name that stands once on each side.
    fn common_column(&mut self, left: &[Item], right: &str) -> Option<String> {
        let right = self.scope.iter().rev().find(|item| item.alias == right)?;
        let shared = right.columns.iter().filter(|column| {
            left.iter().flat_map(|item| &item.columns).filter(|(name, _)| *name == column.0).count() == 1
                && left.iter().any(|item| item.columns.contains(column))
        });
        let names: Vec<String> = shared.map(|(name, _)| name.clone()).collect();
        if names.is_empty() { None } else { Some(self.random.pick(&names).clone()) }
    }

    /// Mostly an equality with what stands to the left.
    fn join_condition(&mut self, left: &[Item], right: &str) -> Sql {
        let equal = self.equality(left, right);
        if self.chance(25) {
            let mut items = left.to_vec();
            items.extend(self.scope.iter().rev().find(|item| item.alias == right).cloned());
            let more = self.with_scope(items, |this| this.condition(1));
            return sql!(&equal, self.word(&[" AND ", " OR "]), more).or([equal]);
        }
        equal
    }

    fn equality(&mut self, left: &[Item], right: &str) -> Sql {
        let right = self.scope.iter().rev().filter(|item| item.alias == right).cloned().collect::<Vec<_>>();
        for of in [Type::Int, Type::Text, Type::Numeric, Type::Date] {
            let of = if of == Type::Int && self.chance(25) { Type::Text } else { of };
            let (a, b) = (self.qualified(left, of), self.qualified(&right, of));
            if let (Some(a), Some(b)) = (a, b) {
                return sql!(a, " = ", b);
            }
        }
        "true".into()
    }

    fn qualified(&mut self, items: &[Item], of: Type) -> Option<Sql> {
        let names: Vec<String> = items
            .iter()
            .flat_map(|item| {
                item.columns.iter().filter(|(_, have)| *have == of).map(|(name, _)| format!("{}.{name}", item.alias))
            })
            .collect();
        if names.is_empty() { None } else { Some(self.random.pick(&names).as_str().into()) }
    }

    /// One thing that FROM may name, and what it has.
    fn item(&mut self, depth: usize, own: usize, is_lateral: bool) -> (Sql, Item) {
        let alias = self.name("t");
        if is_lateral || (depth > 0 && self.chance(25)) {
            // Its neighbours are out of its sight, unless it is LATERAL.
            let neighbours = if is_lateral { Vec::new() } else { self.scope.split_off(own) };
            let inner = self.query(depth.saturating_sub(1), None);
            self.scope.extend(neighbours);
            let lateral = if is_lateral { "LATERAL " } else { "" };
            if self.chance(20) {
                let columns: Vec<(String, Type)> = inner.columns.iter().map(|(_, of)| (self.name("y"), *of)).collect();
                let names: Vec<Sql> = columns.iter().map(|(name, _)| name.as_str().into()).collect();
                return (
                    sql!(lateral, "(", inner.sql, ") AS ", &*alias, " (", Sql::fixed(&names), ")"),
                    item(&alias, columns),
                );
            }
            return (sql!(lateral, "(", inner.sql, ") AS ", &*alias), item(&alias, inner.columns));
        }
        if !self.ctes.is_empty() && self.chance(50) {
            let cte = self.random.pick(&self.ctes).clone();
            return (sql!(cte.alias.as_str(), " AS ", &*alias), Item { alias, ..cte });
        }
        match self.random.below(24) {
            0 => {
                let column = self.name("g");
                let from = sql!("generate_series(1, 3) AS ", &*alias, " (", &*column, ")");
                (from, Item { is_row: false, ..item(&alias, vec![(column, Type::Int)]) })
            }
            1 => {
                let texts = self.with_scope(Vec::new(), |this| this.expression(Type::Texts, 1));
                let (value, ordinal) = (self.name("u"), self.name("o"));
                let from =
                    sql!("unnest(", texts, ") WITH ORDINALITY AS ", &*alias, " (", &*value, ", ", &*ordinal, ")");
                // A bigint, which nothing here names.
                (from, Item { key: vec![ordinal], ..item(&alias, vec![(value, Type::Text)]) })
            }
            2 => {
                let types = self.types(3);
                let inner = self.with_scope(Vec::new(), |this| this.values(&types));
                (sql!("(", inner.sql, ") AS ", &*alias), item(&alias, inner.columns))
            }
            _ => self.table(alias),
        }
    }

    fn table(&mut self, alias: String) -> (Sql, Item) {
        // The tables with most to hide come most often.
        let at = if self.chance(55) { self.random.below(3) } else { self.random.below(TABLES.len()) };
        let table = &TABLES[at];
        let name = match self.random.below(12) {
            0 => format!("public.{}", table.name),
            1 => format!("\"{}\"", table.name),
            // Of managers, people has the same columns.
            2 => format!("ONLY {}", table.name),
            _ => table.name.to_owned(),
        };
        let is_plain = at <= 2;
        let item = Item {
            alias: alias.clone(),
            columns: table.columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
            key: table.key.iter().map(|name| (*name).to_owned()).collect(),
            is_table: is_plain,
            is_row: true,
        };
        let name = sql!(name);
        if self.chance(6) {
            // Other names for the first columns.
            let count = 1 + self.random.below(item.columns.len());
            let mut item = item;
            let mut names: Vec<Sql> = Vec::new();
            for column in item.columns.iter_mut().take(count) {
                let fresh = self.name("r");
                for key in item.key.iter_mut().filter(|key| **key == column.0) {
                    key.clone_from(&fresh);
                }
                names.push(fresh.as_str().into());
                column.0 = fresh;
            }
            return (sql!(name, " AS ", &*alias, " (", Sql::fixed(&names), ")"), item);
        }
        (sql!(name, self.word(&[" AS ", " "]), alias), item)
    }
}

fn item(alias: &str, columns: Vec<(String, Type)>) -> Item {
    let key = columns.iter().map(|(name, _)| name.clone()).collect();
    Item { alias: alias.to_owned(), columns, key, is_table: false, is_row: true }
}
