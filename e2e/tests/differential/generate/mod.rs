//! Random statements over the schema of `corpus/differential`, the same for the same seed.
//!
//! **Promise.** A tame case has one answer, as a set of rows: no LIMIT without a total order, nothing that raises for some
//! rows only, no aggregate that depends on the order of its input unless it is told one. So two databases that hold
//! the same must answer it alike, whatever plan they take.
//! **Also.** A wild case may raise and depend on order. Only servers that take the same plan answer it alike.
//!
//! [`statement`] makes cases of [`query`]s, those of [`expression`]s; [`tree`] makes them smaller.

mod expression;
mod query;
mod statement;
pub(crate) mod tree;

use postern_e2e::random::Random;
use tree::Sql;

pub(crate) use statement::{Case, Step};

/// Types of expressions. numeric has always two digits after its point: what is equal is written alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Int,
    Numeric,
    Text,
    Bool,
    Date,
    Stamp,
    Json,
    Texts,
    Stage,
}

impl Type {
    /// What most queries select.
    const ALL: [Type; 8] =
        [Type::Int, Type::Text, Type::Numeric, Type::Bool, Type::Date, Type::Stamp, Type::Json, Type::Texts];

    fn name(self) -> &'static str {
        match self {
            Type::Int => "int",
            Type::Numeric => "numeric",
            Type::Text => "text",
            Type::Bool => "boolean",
            Type::Date => "date",
            Type::Stamp => "timestamptz",
            Type::Json => "jsonb",
            Type::Texts => "text[]",
            Type::Stage => "stage",
        }
    }
}

/// A table or view of the schema.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Type)],
    /// Columns that tell its rows apart.
    key: &'static [&'static str],
}

/// The schema. Hidden columns are not in it.
const TABLES: [Table; 11] = {
    use Type::{Bool, Date, Int, Json, Numeric, Stage, Stamp, Text, Texts};
    const fn table(
        name: &'static str,
        key: &'static [&'static str],
        columns: &'static [(&'static str, Type)],
    ) -> Table {
        Table { name, columns, key }
    }
    [
        table(
            "customers",
            &["id"],
            &[
                ("id", Int),
                ("name", Text),
                ("email", Text),
                ("card", Text),
                ("note", Text),
                ("secret", Text),
                ("code", Text),
                ("label", Text),
                ("birth", Date),
                ("seen", Stamp),
                ("balance", Numeric),
                ("salary", Int),
                ("doc", Json),
                ("tags", Texts),
                ("region", Text),
                ("visits", Int),
                ("active", Bool),
                ("joined", Date),
            ],
        ),
        table(
            "orders",
            &["id"],
            &[("id", Int), ("customer_id", Int), ("region", Text), ("item", Text), ("amount", Int), ("placed", Stamp)],
        ),
        table(
            "notes",
            &["id"],
            &[
                ("id", Int),
                ("parent", Int),
                ("body", Text),
                ("kind", Text),
                ("amount", Numeric),
                ("made", Date),
                ("doc", Json),
                ("tags", Texts),
                ("done", Bool),
            ],
        ),
        table("people", &["id"], &[("id", Int), ("name", Text), ("phone", Text)]),
        table("managers", &["id"], &[("id", Int), ("name", Text), ("phone", Text), ("bonus", Int)]),
        table("events", &["id"], &[("id", Int), ("region", Text), ("payload", Text), ("level", Int)]),
        table("events_eu", &["id"], &[("id", Int), ("region", Text), ("payload", Text), ("level", Int)]),
        table(
            "parcels",
            &["id"],
            &[("id", Int), ("order_id", Int), ("stage", Stage), ("item", Text), ("weight", Numeric)],
        ),
        table(
            "customer_view",
            &["id"],
            &[("id", Int), ("name", Text), ("email", Text), ("card", Text), ("visits", Int)],
        ),
        table(
            "order_view",
            &["id"],
            &[("id", Int), ("customer_id", Int), ("item", Text), ("amount", Int), ("region", Text)],
        ),
        table("regions", &["region"], &[("region", Text)]),
    ]
};

/// What stands in a FROM clause.
#[derive(Clone, Debug)]
struct Item {
    alias: String,
    columns: Vec<(String, Type)>,
    key: Vec<String>,
    /// A table: its key stands for all its columns in GROUP BY.
    is_table: bool,
    /// Whether its alias alone is a row, not a value.
    is_row: bool,
}

/// Makes statements.
pub(crate) struct Generator {
    random: Random,
    /// Gives every name once.
    names: usize,
    /// All that an expression may name: of the queries around, then of its own.
    scope: Vec<Item>,
    /// The CTEs that are visible.
    ctes: Vec<Item>,
    /// Types and values of parameters, where there may be any.
    parameters: Option<Vec<(u32, String)>>,
    /// Whether a column needs no qualifier.
    is_bare: bool,
    /// Whether raising and depending on order is allowed.
    wild: bool,
}

impl Generator {
    /// For one case.
    pub(crate) fn new(seed: u64, wild: bool) -> Self {
        Self {
            random: Random::new(seed),
            names: 0,
            scope: Vec::new(),
            ctes: Vec::new(),
            parameters: None,
            is_bare: false,
            wild,
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.chance(percent)
    }

    fn word(&mut self, words: &[&'static str]) -> &'static str {
        words[self.random.below(words.len())]
    }

    fn types(&mut self, most: usize) -> Vec<Type> {
        (0..=self.random.below(most)).map(|_| *self.random.pick(&Type::ALL)).collect()
    }

    /// With only these items in scope.
    fn with_scope<T>(&mut self, scope: Vec<Item>, make: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.scope, scope);
        let was_bare = std::mem::take(&mut self.is_bare);
        let made = make(self);
        (self.scope, self.is_bare) = (outer, was_bare);
        made
    }
}

/// A number of the seed's run, as the generator's own seed: neighbours have nothing in common.
pub(crate) fn case(seed: u64, number: u64, wild: bool) -> Case {
    Generator::new(seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(number), wild).case()
}

/// Quotes a text.
fn quoted(text: &str) -> Sql {
    Sql::Text(format!("'{}'", text.replace('\'', "''")))
}
