//! Expressions of a wanted type over what is in scope.

use super::tree::{Sql, sql};
use super::{Generator, Type, quoted};

const TEXTS: [&str; 10] =
    ["Ada", "apple", "m***@example.com", "**********0001", "", "eu", "confidential", "a%", "x", "***"];

impl Generator {
    /// An expression of a type.
    pub(super) fn expression(&mut self, of: Type, depth: usize) -> Sql {
        if depth == 0 || self.chance(25) {
            return self.leaf(of);
        }
        let depth = depth - 1;
        if self.wild && self.chance(6) {
            return self.raising(of, depth);
        }
        match self.random.below(10) {
            0 => self.of_any_type(of, depth),
            1 if depth > 0 => self.scalar_query(of, depth),
            _ => self.of_type(of, depth),
        }
    }

    /// A column of a type, if there is one.
    pub(super) fn column(&mut self, of: Type) -> Option<Sql> {
        let found: Vec<(usize, String)> = self
            .scope
            .iter()
            .enumerate()
            .flat_map(|(at, item)| {
                item.columns.iter().filter(|(_, have)| *have == of).map(move |(name, _)| (at, name.clone()))
            })
            .collect();
        if found.is_empty() {
            return None;
        }
        let (at, name) = self.random.pick(&found).clone();
        if self.is_bare && self.chance(60) {
            return Some(name.into());
        }
        let alias = &self.scope[at].alias;
        // `(c).card` and `c.card` are one thing.
        Some(if self.random.chance(4) { format!("({alias}).{name}") } else { format!("{alias}.{name}") }.into())
    }

    fn leaf(&mut self, of: Type) -> Sql {
        if self.chance(75)
            && let Some(column) = self.column(of)
        {
            return column.or([self.constant(of)]);
        }
        self.literal(of)
    }

    /// A literal, or a parameter where there may be one.
    pub(super) fn literal(&mut self, of: Type) -> Sql {
        if self.parameters.is_some() && self.chance(50) {
            let parameter = match of {
                Type::Int => Some((23, "2")),
                Type::Numeric => Some((1700, "918000.00")),
                Type::Text => Some((25, "Ada")),
                Type::Bool => Some((16, "t")),
                Type::Date => Some((1082, "1937-01-01")),
                Type::Stamp => Some((1184, "2021-06-15 13:00:00+00")),
                Type::Json => Some((3802, r#"{"k": 1}"#)),
                Type::Texts => Some((1009, "{x,2}")),
                // Its number is another in each database.
                Type::Stage => None,
            };
            if let (Some(values), Some((oid, value))) = (&mut self.parameters, parameter) {
                values.push((oid, value.to_owned()));
                return Sql::Text(format!("${}", values.len()));
            }
        }
        self.constant(of)
    }

    fn constant(&mut self, of: Type) -> Sql {
        if self.chance(5) {
            return sql!("NULL::", of.name());
        }
        match of {
            Type::Int => self.word(&["0", "1", "2", "3", "7", "10", "(-1)"]).into(),
            Type::Numeric => self.word(&["0.00", "2.50", "10.00", "918000.00", "919000.00"]).into(),
            Type::Text => quoted(self.word(&TEXTS)),
            Type::Bool => self.word(&["true", "false"]).into(),
            Type::Date => self.word(&["date '1937-01-01'", "date '2020-02-05'", "'1937-01-05'::date"]).into(),
            Type::Stamp => {
                self.word(&["timestamptz '2021-06-15 13:00:00+00'", "'2022-03-02 05:00:00+00'::timestamptz"]).into()
            }
            Type::Json => self.word(&[r#"'{"k": 1}'::jsonb"#, "'null'::jsonb", r#"'[1, "a"]'::jsonb"#]).into(),
            Type::Texts => self.word(&["'{}'::text[]", "ARRAY['x', '2']", "'{a,NULL}'::text[]"]).into(),
            Type::Stage => self.word(&["'open'::stage", "'shut'::stage"]).into(),
        }
    }

    /// An expression whose type the server needn't guess.
    fn typed(&mut self, of: Type, depth: usize) -> Sql {
        let made = self.expression(of, depth);
        let text = made.text();
        if of == Type::Text && text.starts_with('\'') && !text.contains("::") { sql!(made, "::text") } else { made }
    }

    /// What every type has.
    fn of_any_type(&mut self, of: Type, depth: usize) -> Sql {
        let a = self.expression(of, depth);
        let b = self.expression(of, depth);
        let simpler = [a.clone(), b.clone()];
        match self.random.below(5) {
            0 => sql!("coalesce(", &a, ", ", &b, ")"),
            1 => sql!("nullif(", &a, ", ", &b, ")"),
            2 => sql!("CASE WHEN ", self.condition(depth), " THEN ", &a, " ELSE ", &b, " END"),
            3 => {
                let what = self.expression(Type::Text, depth);
                sql!(
                    "CASE ",
                    what,
                    " WHEN ",
                    self.constant(Type::Text),
                    " THEN ",
                    &a,
                    sql!(" ELSE ", &b).optional(),
                    " END"
                )
            }
            _ if matches!(of, Type::Bool | Type::Json | Type::Stage) => sql!("(ARRAY[", &a, ", ", &b, "])[1]"),
            _ => sql!(self.word(&["greatest", "least"]), "(", &a, ", ", &b, ")"),
        }
        .or(simpler)
    }

    fn of_type(&mut self, of: Type, depth: usize) -> Sql {
        match of {
            Type::Int => self.int(depth),
            Type::Numeric => self.numeric(depth),
            Type::Text => self.text(depth),
            Type::Bool => self.condition(depth),
            Type::Date => self.date(depth),
            Type::Stamp => self.stamp(depth),
            Type::Json => self.json(depth),
            Type::Texts => self.texts(depth),
            Type::Stage => self.leaf(of),
        }
    }

    fn int(&mut self, depth: usize) -> Sql {
        match self.random.below(12) {
            0..=2 => {
                let (a, b) = (self.expression(Type::Int, depth), self.expression(Type::Int, depth));
                sql!("(", &a, self.word(&[" + ", " - ", " # ", " & "]), &b, ")").or([a, b])
            }
            3 => {
                let a = self.expression(Type::Int, depth);
                sql!("(", &a, " % 7 * 3)").or([a])
            }
            4 => {
                let a = self.expression(Type::Int, depth);
                sql!(self.word(&["abs", "sign"]), "(", &a, ")::int").or([a])
            }
            5 | 6 => {
                let text = self.expression(Type::Text, depth);
                let function = self.word(&["length", "octet_length", "ascii", "char_length", "bit_length"]);
                sql!(function, "(", text, ")")
            }
            7 => sql!("position(", self.constant(Type::Text), " IN ", self.expression(Type::Text, depth), ")"),
            8 => {
                let field = self.word(&["year", "month", "day", "dow"]);
                sql!("extract(", field, " FROM ", self.expression(Type::Date, depth), ")::int")
            }
            9 => sql!("coalesce(cardinality(", self.expression(Type::Texts, depth), "), 0)"),
            10 => sql!("(", self.condition(depth), ")::int"),
            _ => sql!("(", self.expression(Type::Date, depth), " - ", self.expression(Type::Date, depth), ")"),
        }
    }

    fn numeric(&mut self, depth: usize) -> Sql {
        let a = self.expression(Type::Numeric, depth);
        match self.random.below(6) {
            0 | 1 => {
                let b = self.expression(Type::Numeric, depth);
                sql!("(", &a, self.word(&[" + ", " - "]), &b, ")").or([a, b])
            }
            2 => sql!("round(", &a, " / 3, 2)").or([a]),
            3 => sql!("round(", &a, " * 1.5, 2)").or([a]),
            4 => sql!("round(", self.expression(Type::Int, depth), "::numeric, 2)"),
            _ => sql!(self.word(&["abs", "+ ", "- "]), "(", &a, ")").or([a]),
        }
    }

    fn text(&mut self, depth: usize) -> Sql {
        let a = self.expression(Type::Text, depth);
        let small = self.random.below(4) + 1;
        let simpler = [a.clone()];
        let made = match self.random.below(26) {
            0 => {
                sql!(self.word(&["lower", "upper", "initcap", "reverse", "md5", "trim", "quote_literal"]), "(", a, ")")
            }
            1 => sql!(self.word(&["left", "right"]), "(", a, format!(", {small})")),
            2 => sql!("substr(", a, format!(", {small}, 3)")),
            3 => sql!("substring(", a, format!(" FROM {small} FOR 5)")),
            4 => sql!("(", a, " || ", self.expression(Type::Text, depth), ")"),
            5 => sql!(
                "concat(",
                a,
                ", ",
                self.expression(Type::Int, depth),
                ", ",
                self.expression(Type::Date, depth),
                ")"
            ),
            6 => sql!("concat_ws('/', ", a, ", ", self.expression(Type::Text, depth), ")"),
            7 => sql!("replace(", a, ", '*', 'x')"),
            8 => sql!("lpad(", a, format!(", {}, '.')", small * 4)),
            9 => sql!("repeat(", a, format!(", {small})")),
            10 => sql!("split_part(", a, format!(", '@', {small})")),
            11 => sql!("translate(", a, ", '*01', 'xyz')"),
            12 => sql!("format('%s-%L', ", a, ", ", self.expression(Type::Text, depth), ")"),
            13 => sql!("encode(convert_to(", a, ", 'UTF8'), ", self.word(&["'hex'", "'base64'", "'escape'"]), ")"),
            14 => sql!("regexp_replace(", a, ", '[a-f*]', '-', 'g')"),
            15 => sql!("overlay(", a, " PLACING '#' FROM 2)"),
            16 => sql!("to_jsonb(", self.typed(Type::Text, depth), ")::text"),
            17 => sql!("to_char(", self.expression(Type::Date, depth), ", 'YYYY-MM')"),
            18 => sql!("array_to_string(", self.expression(Type::Texts, depth), ", ',', '-')"),
            19 => sql!("(", self.expression(Type::Json, depth), self.word(&[" ->> 'k'", " #>> '{k}'", " ->> 0"]), ")"),
            20 => return self.whole_row("::text").unwrap_or_else(|| self.leaf(Type::Text)),
            21 => sql!("substring(", a, " FROM '[0-9]+')"),
            22 => sql!("encode(sha256(convert_to(", a, ", 'UTF8')), 'hex')"),
            23 => sql!("ROW(", a, ", ", self.expression(Type::Int, depth), ")::text"),
            24 => sql!("(", a, " COLLATE \"C\")"),
            _ => {
                let of = *self.random.pick(&Type::ALL);
                sql!("(", self.expression(of, depth), ")::", self.word(&["text", "varchar", "varchar(5)::text"]))
            }
        };
        made.or(simpler)
    }

    /// A whole row with something behind it.
    fn whole_row(&mut self, then: &str) -> Option<Sql> {
        let rows: Vec<&str> = self.scope.iter().filter(|item| item.is_row).map(|item| &*item.alias).collect();
        if rows.is_empty() {
            return None;
        }
        let alias = (*self.random.pick(&rows)).to_owned();
        Some(match self.random.below(3) {
            0 => sql!("(", alias, ".*)", then),
            _ => sql!(alias, then),
        })
    }

    fn date(&mut self, depth: usize) -> Sql {
        let a = self.expression(Type::Date, depth);
        match self.random.below(4) {
            0 => sql!("(", &a, self.word(&[" + ", " - "]), "3)").or([a]),
            1 => sql!("date_trunc(", self.word(&["'month'", "'year'"]), ", ", &a, ")::date").or([a]),
            2 => sql!("(", self.expression(Type::Stamp, depth), " AT TIME ZONE 'UTC')::date"),
            _ => sql!("(", &a, " + interval '1 month')::date").or([a]),
        }
    }

    fn stamp(&mut self, depth: usize) -> Sql {
        let a = self.expression(Type::Stamp, depth);
        match self.random.below(4) {
            0 => sql!("date_trunc(", self.word(&["'day'", "'hour'", "'minute'"]), ", ", &a, ")").or([a]),
            1 => sql!("(", &a, " + interval '90 minutes')").or([a]),
            2 => sql!("date_bin('15 minutes', ", &a, ", timestamptz '2001-01-01 00:00:00+00')").or([a]),
            _ => sql!("(", self.expression(Type::Date, depth), "::timestamp AT TIME ZONE 'UTC')"),
        }
    }

    fn json(&mut self, depth: usize) -> Sql {
        match self.random.below(8) {
            0 => return self.whole_row("").map_or_else(|| self.leaf(Type::Json), |row| sql!("to_jsonb(", row, ")")),
            1 => {
                return self
                    .whole_row("")
                    .map_or_else(|| self.leaf(Type::Json), |row| sql!("row_to_json(", row, ")::jsonb"));
            }
            _ => {}
        }
        let of = *self.random.pick(&Type::ALL);
        let any = self.typed(of, depth);
        match self.random.below(7) {
            0 => sql!("to_jsonb(", any, ")"),
            1 => sql!("jsonb_build_object('k', ", any, ", 'n', ", self.expression(Type::Int, depth), ")"),
            2 => sql!("jsonb_build_array(", any, ", ", self.typed(Type::Text, depth), ")"),
            3 => {
                let a = self.expression(Type::Json, depth);
                sql!("(", &a, " -> 'k')").or([a])
            }
            4 => {
                let a = self.expression(Type::Json, depth);
                sql!("jsonb_strip_nulls(", &a, ")").or([a])
            }
            5 => sql!("json_build_object('k', ", any, ")::jsonb"),
            _ => {
                let a = self.expression(Type::Json, depth);
                sql!("jsonb_path_query_array(", &a, ", '$.k')").or([a])
            }
        }
    }

    fn texts(&mut self, depth: usize) -> Sql {
        let text = self.typed(Type::Text, depth);
        match self.random.below(6) {
            0 => sql!("ARRAY[", text, ", ", self.typed(Type::Text, depth), "]"),
            1 => sql!("string_to_array(", text, ", '*')"),
            2 => {
                let a = self.expression(Type::Texts, depth);
                sql!("array_append(", &a, ", ", text, ")").or([a])
            }
            3 => {
                let a = self.expression(Type::Texts, depth);
                sql!("(", &a, " || ", text, ")").or([a])
            }
            4 if depth > 0 => {
                let inner = self.query(depth - 1, Some(&[Type::Text]));
                sql!("ARRAY(", inner.sql, " ORDER BY 1)")
            }
            _ => sql!("regexp_split_to_array(", text, ", '[@.]')"),
        }
    }

    /// A condition.
    pub(super) fn condition(&mut self, depth: usize) -> Sql {
        if depth == 0 {
            return self.comparison(0);
        }
        match self.random.below(16) {
            0 | 1 => {
                let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
                sql!("(", &a, self.word(&[" AND ", " OR "]), &b, ")").or([a, b])
            }
            2 => {
                let a = self.condition(depth - 1);
                sql!("NOT (", &a, ")").or([a])
            }
            3 => {
                let text = self.expression(Type::Text, depth);
                let operator = self.word(&[" LIKE ", " NOT LIKE ", " ILIKE ", " ~ ", " !~* ", " SIMILAR TO "]);
                let pattern = self.word(&["'%a%'", "'m%'", "'[*]*'", "'C%'", "'a|b'", "'%1'"]);
                sql!("(", text, operator, pattern, ")")
            }
            4 => {
                let of = *self.random.pick(&Type::ALL);
                sql!("((", self.expression(of, depth), ")", self.word(&[" IS NULL", " IS NOT NULL"]), ")")
            }
            5 => {
                let of = *self.random.pick(&[Type::Int, Type::Numeric, Type::Text, Type::Date]);
                let a = self.expression(of, depth);
                sql!(
                    "(",
                    a,
                    self.word(&[" BETWEEN ", " NOT BETWEEN "]),
                    self.literal(of),
                    " AND ",
                    self.literal(of),
                    ")"
                )
            }
            6 => {
                let of = *self.random.pick(&[Type::Int, Type::Text, Type::Date]);
                let a = self.expression(of, depth);
                let members: Vec<Sql> = (0..3).map(|_| self.constant(of)).collect();
                sql!("(", a, self.word(&[" IN (", " NOT IN ("]), Sql::list(members), "))")
            }
            7 => {
                let of = *self.random.pick(&[Type::Int, Type::Text, Type::Date, Type::Numeric]);
                let a = self.expression(of, depth);
                let inner = self.query(depth - 1, Some(&[of]));
                sql!("(", a, self.word(&[" IN (", " NOT IN (", " = ANY (", " <> ALL (", " >= ALL ("]), inner.sql, "))")
            }
            8 => {
                let of = self.types(2);
                let inner = self.query(depth - 1, Some(&of));
                sql!(self.word(&["EXISTS (", "NOT EXISTS ("]), inner.sql, ")")
            }
            9 => sql!("(", self.expression(Type::Text, depth), " = ANY (", self.expression(Type::Texts, depth), "))"),
            10 => {
                let (a, b) = (self.expression(Type::Int, depth), self.expression(Type::Text, depth));
                let (c, d) = (self.literal(Type::Int), self.literal(Type::Text));
                sql!("((", a, ", ", b, ")", self.word(&[" = ", " < ", " >= ", " <> "]), "(", c, ", ", d, "))")
            }
            11 => sql!(
                "(",
                self.expression(Type::Json, depth),
                self.word(&[" @> '{\"k\": 1}'", " ? 'k'", " = 'null'"]),
                ")"
            ),
            12 => {
                let operator = self.word(&[" IS NULL", " IS NOT NULL"]);
                let row = self.whole_row("");
                row.map_or_else(|| self.comparison(depth), |row| sql!("(", row, operator, ")"))
            }
            13 => sql!("(", self.condition(depth - 1), ")", self.word(&[" IS TRUE", " IS NOT TRUE", " IS UNKNOWN"])),
            14 => {
                let a = self.expression(Type::Texts, depth);
                sql!("(", a, self.word(&[" && ", " @> ", " = "]), "ARRAY['x', '2'])")
            }
            _ => self.comparison(depth),
        }
    }

    fn comparison(&mut self, depth: usize) -> Sql {
        let of = *self.random.pick(&[
            Type::Int,
            Type::Int,
            Type::Text,
            Type::Text,
            Type::Numeric,
            Type::Date,
            Type::Stamp,
            Type::Bool,
        ]);
        let operator =
            self.word(&[" = ", " = ", " <> ", " < ", " <= ", " > ", " IS DISTINCT FROM ", " IS NOT DISTINCT FROM "]);
        let (a, b) = (self.expression(of, depth), self.expression(of, depth));
        sql!("(", a, operator, b, ")").or([Sql::from("true")])
    }

    /// A query of one row for sure.
    fn scalar_query(&mut self, of: Type, depth: usize) -> Sql {
        let leaf = self.leaf(of);
        if self.chance(60) {
            let mark = self.scope.len();
            let was_bare = std::mem::take(&mut self.is_bare);
            let from = self.from(depth.min(1));
            let condition = self.condition(depth.min(1));
            let aggregate = self.aggregate(of, mark);
            self.is_bare = was_bare;
            self.scope.truncate(mark);
            sql!("(SELECT ", aggregate, " FROM ", from, sql!(" WHERE ", condition).optional(), ")")
        } else {
            let inner = self.query(depth - 1, Some(&[of]));
            sql!("(", inner.sql, " ORDER BY 1 LIMIT 1)")
        }
        .or([leaf])
    }

    /// An aggregate over the rows in scope.
    pub(super) fn aggregate(&mut self, of: Type, own: usize) -> Sql {
        // With a column of a query around it, it would be an aggregate of that one.
        let items = self.scope[own..].to_vec();
        self.with_scope(items, |this| this.aggregate_of_scope(of, 1))
    }

    fn aggregate_of_scope(&mut self, of: Type, depth: usize) -> Sql {
        let any = *self.random.pick(&Type::ALL);
        let filter = if self.chance(25) {
            sql!(" FILTER (WHERE ", self.condition(depth.min(1)), ")").optional()
        } else {
            Sql::empty()
        };
        let distinct = self.word(&["", "", "", "DISTINCT "]);
        match of {
            Type::Int => match self.random.below(6) {
                0 => sql!("count(*)", filter, "::int"),
                1 => sql!("count(", distinct, self.typed(any, depth), ")", filter, "::int"),
                2 => sql!("sum(", distinct, self.expression(Type::Int, depth), ")", filter, "::int"),
                3 => sql!(self.word(&["min", "max"]), "(", self.expression(Type::Int, depth), ")", filter),
                4 => {
                    let order = self.expression(Type::Int, depth);
                    let function = self.word(&["percentile_disc(0.5)", "mode()", "percentile_disc(0.9)"]);
                    sql!(function, " WITHIN GROUP (ORDER BY ", order, ")", filter)
                }
                _ => sql!("(rank(2) WITHIN GROUP (ORDER BY ", self.expression(Type::Int, depth), ")", filter, ")::int"),
            },
            Type::Numeric => match self.random.below(3) {
                0 => sql!("round(avg(", self.expression(Type::Int, depth), ")", filter, ", 2)"),
                _ => sql!(self.word(&["sum", "min", "max"]), "(", self.expression(Type::Numeric, depth), ")", filter),
            },
            Type::Text => match self.random.below(3) {
                0 => {
                    let text = self.typed(Type::Text, depth);
                    let order = if self.wild { Sql::empty() } else { sql!(" ORDER BY ", &text) };
                    sql!("string_agg(", distinct, &text, ", ','", order, ")", filter)
                }
                1 => sql!("mode() WITHIN GROUP (ORDER BY ", self.typed(Type::Text, depth), ")", filter),
                _ => sql!(self.word(&["min", "max"]), "(", self.typed(Type::Text, depth), ")", filter),
            },
            Type::Bool => sql!(self.word(&["bool_and", "bool_or", "every"]), "(", self.condition(depth), ")", filter),
            Type::Date | Type::Stamp => sql!(self.word(&["min", "max"]), "(", self.expression(of, depth), ")", filter),
            Type::Json => {
                let one = self.typed(any, depth);
                sql!("jsonb_agg(", distinct, &one, " ORDER BY ", &one, ")", filter)
            }
            Type::Texts => {
                let one = self.typed(Type::Text, depth);
                sql!("array_agg(", distinct, &one, " ORDER BY ", &one, self.word(&["", " DESC"]), ")", filter)
            }
            Type::Stage => sql!("max(", self.leaf(of), ")", filter),
        }
    }

    /// A window function, with a total order where the function needs one.
    pub(super) fn window(&mut self, of: Type, own: usize) -> Sql {
        let keys: Vec<Sql> = self.scope[own..]
            .iter()
            .flat_map(|item| item.key.iter().map(move |key| Sql::Text(format!("{}.{key}", item.alias))))
            .collect();
        let any = *self.random.pick(&[Type::Int, Type::Text, Type::Bool, Type::Date]);
        let part =
            if self.chance(50) { sql!("PARTITION BY ", self.expression(any, 1), " ").optional() } else { Sql::empty() };
        let first = self.typed(any, 1);
        let total = sql!(
            "ORDER BY ",
            sql!(first, self.word(&["", " DESC", " NULLS FIRST"]), ", ").optional(),
            Sql::fixed(&keys)
        );
        let frame = self.word(&[
            "",
            "",
            " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            " GROUPS 1 PRECEDING EXCLUDE CURRENT ROW",
        ]);
        if of == Type::Int && self.chance(50) {
            let function = self.word(&["row_number()", "rank()", "dense_rank()", "ntile(3)"]);
            return sql!("(", function, " OVER (", part, total, "))::int");
        }
        let value = self.typed(of, 1);
        let call = match (of, self.random.below(3)) {
            (_, 0) => sql!(self.word(&["lag", "lead"]), "(", &value, ")"),
            (Type::Int, 1) => return sql!("(sum(", value, ") OVER (", part, total, frame, "))::int"),
            (_, 1) => sql!("first_value(", &value, ")"),
            _ => sql!("nth_value(", &value, ", 2)"),
        };
        sql!(call, " OVER (", part, total, frame, ")").or([value])
    }

    /// What fails for some values, or depends on the order of rows.
    fn raising(&mut self, of: Type, depth: usize) -> Sql {
        let int = self.expression(Type::Int, depth);
        let text = self.expression(Type::Text, depth);
        match of {
            Type::Int => match self.random.below(4) {
                0 => sql!("(100 / ", int, ")"),
                1 => sql!("(", text, ")::int"),
                2 => sql!("(", int, " * 1000000)"),
                _ => sql!("(", self.expression(Type::Numeric, depth), " * 1000000)::int"),
            },
            Type::Text => match self.random.below(4) {
                0 => sql!("chr(", int, ")"),
                1 => sql!("substring(", text, " FROM 1 FOR ", int, ")"),
                2 => sql!("(", self.expression(Type::Texts, depth), ")[", int, "]"),
                _ => sql!("convert_from(decode(", text, ", 'hex'), 'UTF8')"),
            },
            Type::Date => sql!("(", text, ")::date"),
            Type::Numeric => sql!("ln(", self.expression(Type::Numeric, depth), ")"),
            Type::Json => sql!("(", text, ")::jsonb"),
            Type::Bool => sql!("(", text, ")::boolean"),
            Type::Stamp => sql!("(", text, ")::timestamptz"),
            Type::Texts => sql!("(", text, ")::text[]"),
            Type::Stage => sql!("(", text, ")::stage"),
        }
    }
}
