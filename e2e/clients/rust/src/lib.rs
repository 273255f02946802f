//! What the programs share: one line for each step, `step: outcome`. The first word of a step says what kind it is.

use std::error::Error;
use std::fmt::Debug;

/// What a step comes to.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where to connect to.
#[derive(Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
}

impl Target {
    pub fn from_environment() -> Self {
        let get = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        Self {
            host: get("PGHOST"),
            port: get("PGPORT").parse().expect("PGPORT is no number"),
            user: get("PGUSER"),
            password: get("PGPASSWORD"),
            database: get("PGDATABASE"),
        }
    }

    pub fn url(&self) -> String {
        let Self { host, port, user, password, database } = self;
        format!("postgres://{user}:{password}@{host}:{port}/{database}?sslmode=disable&application_name=orders")
    }
}

/// Statements that the server refuses, and why.
pub const FAILURES: [(&str, &str); 8] = [
    ("unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)"),
    ("foreign key", "DELETE FROM customers WHERE id = 1"),
    ("check", "UPDATE products SET price = -1 WHERE id = 1"),
    ("not null", "INSERT INTO orders (customer_id) VALUES (NULL)"),
    ("syntax", "SELEC 1"),
    ("unknown table", "SELECT * FROM nosuch"),
    ("hidden column", "SELECT ssn FROM customers"),
    ("division", "SELECT 1 / 0"),
];

/// Prints what is tested, by the versions that are locked.
pub fn versions(crates: &[&str]) {
    let mut lines = include_str!("../Cargo.lock").lines();
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(name) = name.filter(|name| crates.contains(name)) {
            let version = lines.next().and_then(|line| line.split('"').nth(1)).expect("a version follows a name");
            all.push(format!("{name} {version}"));
        }
    }
    println!("# versions: {}", all.join(", "));
}

/// Reports a step's outcome.
pub fn report(name: &str, outcome: Outcome<impl Debug>) {
    match outcome {
        Ok(outcome) => println!("{name}: {outcome:?}"),
        Err(error) => println!("{name}: FAILED {} {}", state(&*error), chain(&*error)),
    }
}

/// Reports a step that the server refuses: its outcome is the SQLSTATE.
pub fn refused(name: &str, outcome: Outcome<impl Debug>) {
    match outcome {
        Ok(outcome) => println!("{name}: FAILED no error, but {outcome:?}"),
        Err(error) if state(&*error).is_empty() => println!("{name}: FAILED {}", chain(&*error)),
        Err(error) => println!("{name}: {}", state(&*error)),
    }
}

/// The SQLSTATE of an error, whatever wraps it. Diesel has kinds in their place.
pub fn state(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>()
            && let Some(code) = error.code()
        {
            return code.code().into();
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>()
            && let Some(code) = error.as_database_error().and_then(|error| error.code())
        {
            return code.into_owned();
        }
        if let Some(diesel::result::Error::DatabaseError(kind, about)) = error.downcast_ref() {
            return format!("{kind:?} {}", about.message().replace('\n', " "));
        }
        next = error.source();
    }
    String::new()
}

fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
