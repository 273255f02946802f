//! diesel over libpq: its command line (`print-schema`, migrations), the query builder with associations, upserts and
//! windows, COPY, notifications and its r2d2 pool. It tells errors by kinds of its own in place of SQLSTATEs.

use std::io::{Read as _, Write as _};
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::process::Command;

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use clients::{FAILURES, Outcome, Target, refused, report, state};
use diesel::connection::{DefaultLoadingMode, SimpleConnection as _};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::dsl::{count_star, exists, max, sql};
use diesel::expression::AsExpression;
use diesel::pg::{CopyFormat, CopyHeader, Pg, PgConnection, PgRowByRowLoadingMode, PgValue};
use diesel::prelude::*;
use diesel::query_builder::QueryId;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Date, Integer, Nullable, SqlType, Text, Varchar};
use diesel::upsert::excluded;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use serde_json::Value;
use uuid::Uuid;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/diesel");

#[derive(SqlType, QueryId)]
#[diesel(postgres_type(name = "category"))]
pub struct CategoryType;

#[derive(Debug, Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = CategoryType)]
enum Category {
    Tool,
    Toy,
    Book,
}

impl ToSql<CategoryType, Pg> for Category {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(match self {
            Self::Tool => b"tool",
            Self::Toy => b"toy",
            Self::Book => b"book",
        })?;
        Ok(IsNull::No)
    }
}

impl FromSql<CategoryType, Pg> for Category {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes() {
            b"tool" => Ok(Self::Tool),
            b"toy" => Ok(Self::Toy),
            b"book" => Ok(Self::Book),
            other => Err(format!("no category: {other:?}").into()),
        }
    }
}

diesel::table! {
    customers (id) {
        id -> Int4,
        name -> Text,
        email -> Varchar,
        card -> Nullable<Text>,
        birth -> Nullable<Date>,
        credit -> Numeric,
        active -> Bool,
        joined -> Timestamptz,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use super::CategoryType;

    products (id) {
        id -> Int8,
        sku -> Varchar,
        title -> Text,
        category -> CategoryType,
        price -> Numeric,
        tags -> Array<Text>,
        attributes -> Jsonb,
        picture -> Nullable<Bytea>,
        uid -> Nullable<Uuid>,
    }
}
diesel::table! {
    orders (id) {
        id -> Int4,
        customer_id -> Int4,
        status -> Varchar,
        placed -> Timestamptz,
        note -> Nullable<Text>,
    }
}
diesel::table! {
    order_items (order_id, line) {
        order_id -> Int4,
        line -> Int2,
        product_id -> Int8,
        quantity -> Int4,
    }
}
diesel::joinable!(orders -> customers (customer_id));
diesel::joinable!(order_items -> orders (order_id));
diesel::joinable!(order_items -> products (product_id));
diesel::allow_tables_to_appear_in_same_query!(customers, orders, order_items, products);

#[derive(Debug, Queryable, Selectable, Identifiable)]
#[expect(dead_code, reason = "read by Debug")]
struct Customer {
    id: i32,
    name: String,
    email: String,
    card: Option<String>,
    birth: Option<NaiveDate>,
    credit: BigDecimal,
    active: bool,
    joined: DateTime<Utc>,
}

#[derive(Debug, Queryable, Selectable, Identifiable, Associations)]
#[diesel(belongs_to(Customer))]
#[expect(dead_code, reason = "read by Debug")]
struct Order {
    id: i32,
    customer_id: i32,
    status: String,
    note: Option<String>,
}

#[derive(Debug, Queryable, Selectable)]
#[expect(dead_code, reason = "read by Debug")]
struct Product {
    id: i64,
    sku: String,
    category: Category,
    price: BigDecimal,
    tags: Vec<String>,
    attributes: Value,
    picture: Option<Vec<u8>>,
    uid: Option<Uuid>,
}

/// What COPY reads: diesel takes no NULL there.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = customers)]
#[expect(dead_code, reason = "read by Debug")]
struct Contact {
    id: i32,
    email: String,
    credit: BigDecimal,
}

#[derive(Insertable)]
#[diesel(table_name = customers)]
struct NewCustomer<'a> {
    name: &'a str,
    email: &'a str,
    card: Option<&'a str>,
    birth: Option<NaiveDate>,
    credit: BigDecimal,
}

#[derive(Insertable, Clone)]
#[diesel(table_name = orders, treat_none_as_default_value = false)]
struct NewOrder {
    customer_id: i32,
    note: Option<String>,
}

#[derive(AsChangeset)]
#[diesel(table_name = customers)]
struct Changes<'a> {
    name: Option<&'a str>,
    card: Option<&'a str>,
}

#[derive(Debug, QueryableByName)]
#[expect(dead_code, reason = "read by Debug")]
struct Mail {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Varchar)]
    email: String,
}

fn main() -> Outcome<()> {
    clients::versions(&["diesel", "diesel_cli", "diesel_migrations", "pq-src"]);
    let connected = PgConnection::establish(&Target::from_environment().url());
    report("connect", connected.as_ref().map(|_| ()).map_err(|error| error.to_string().into()));
    let mut connection = connected?;
    command_line();
    migrate(&mut connection);
    read(&mut connection);
    write(&mut connection);
    transactions(&mut connection);
    prepared(&mut connection);
    cursors(&mut connection);
    copies(&mut connection);
    failures(&mut connection);
    sessions(&mut connection);
    pools();
    report(
        "read at the end",
        plain(customers::table.select(Customer::as_select()).order(customers::id).load(&mut connection)),
    );
    Ok(())
}

/// An outcome with its error as any.
fn plain<T>(outcome: QueryResult<T>) -> Outcome<T> {
    Ok(outcome?)
}

/// How a statement ended: diesel's kind of an error.
fn kind<T>(outcome: QueryResult<T>) -> Result<(), String> {
    outcome.map(|_| ()).map_err(|error| state(&error))
}

/// What diesel's own program prints.
fn diesel(arguments: &[&str]) -> Outcome<Vec<String>> {
    let output = Command::new("target/debug/diesel")
        .args(arguments)
        .env("DATABASE_URL", Target::from_environment().url())
        .output()?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    match output.status.success() {
        true => Ok(text.lines().map(str::to_owned).collect()),
        false => Err(text.replace('\n', " ").into()),
    }
}

fn command_line() {
    report("introspect schema", diesel(&["print-schema"]));
    report(
        "introspect schema with comments",
        diesel(&[
            "print-schema",
            "--with-docs",
            "database-comments",
            "--with-docs-config",
            "database-comments-fallback-to-auto-generated-doc-comment",
        ]),
    );
    report(
        "introspect some tables",
        diesel(&["print-schema", "--only-tables", "orders", "order_items", "--column-sorting", "name"]),
    );
    report("introspect another schema", diesel(&["print-schema", "--schema", "nosuch"]));
    let folder = ["--migration-dir", "migrations/diesel"];
    for command in [["run"].as_slice(), &["list"], &["redo"], &["pending"], &["revert", "--all"], &["list"]] {
        report(
            &format!("schema migration {}", command.join(" ")),
            diesel(&[["migration"].as_slice(), command, &folder].concat()),
        );
    }
}

fn migrate(connection: &mut PgConnection) {
    let mut applied = || {
        let names: Vec<String> =
            connection.run_pending_migrations(MIGRATIONS)?.iter().map(ToString::to_string).collect();
        let parcels: i64 =
            diesel::sql_query("SELECT count(*) AS found FROM parcels").get_result::<Found>(connection)?.found;
        let undone = connection.revert_all_migrations(MIGRATIONS)?.len();
        connection.batch_execute("DROP TABLE __diesel_schema_migrations")?;
        Ok((names, parcels, undone))
    };
    report(
        "schema migrated",
        applied().map_err(|error: Box<dyn std::error::Error + Send + Sync>| -> Box<dyn std::error::Error> { error }),
    );
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    found: i64,
}

fn read(connection: &mut PgConnection) {
    let all = || customers::table.select(Customer::as_select()).order(customers::id);
    report("read all", plain(all().load(connection)));
    report("read products", plain(products::table.select(Product::as_select()).order(products::id).load(connection)));
    report(
        "read one",
        plain(
            customers::table
                .find(2)
                .select((customers::name, customers::card))
                .first::<(String, Option<String>)>(connection),
        ),
    );
    report(
        "read none",
        plain(customers::table.find(99).select(customers::name).first::<String>(connection).optional()),
    );
    let any = customers::table
        .filter(customers::id.eq_any([1, 3]))
        .order(customers::id)
        .select((customers::id, customers::email));
    report("read any of", plain(any.load::<(i32, String)>(connection)));
    report(
        "read by a mask",
        plain(
            customers::table
                .filter(customers::email.eq("m***@example.org"))
                .select(customers::id)
                .load::<i32>(connection),
        ),
    );
    let like = customers::table.filter(customers::email.ilike("%.NET").or(customers::birth.is_null())).count();
    report("read a count", plain(like.get_result::<i64>(connection)));
    report(
        "read exists",
        plain(
            diesel::select(exists(customers::table.filter(customers::card.like("%0002"))))
                .get_result::<bool>(connection),
        ),
    );
    let page = customers::table.order(customers::name.desc()).limit(1).offset(1).select(customers::email);
    report("read a page", plain(page.load::<String>(connection)));
    let joined = orders::table
        .inner_join(customers::table)
        .left_join(order_items::table.inner_join(products::table))
        .order((orders::id, order_items::line));
    let joined =
        joined.select((orders::id, customers::email, products::title.nullable(), order_items::quantity.nullable()));
    report("read joined", plain(joined.load::<(i32, String, Option<String>, Option<i32>)>(connection)));
    let grouped = orders::table
        .inner_join(customers::table)
        .group_by(customers::id)
        .having(count_star().ge(1))
        .order(customers::id);
    report(
        "read grouped",
        plain(grouped.select((customers::email, count_star(), max(orders::placed))).load::<(
            String,
            i64,
            Option<DateTime<Utc>>,
        )>(connection)),
    );
    let associated = all().load(connection).and_then(|customers| {
        let orders = Order::belonging_to(&customers).select(Order::as_select()).order(orders::id).load(connection)?;
        Ok(orders.grouped_by(&customers).into_iter().zip(customers).collect::<Vec<_>>())
    });
    report("read associations", plain(associated));
    let distinct = orders::table
        .distinct_on(orders::customer_id)
        .order((orders::customer_id, orders::id.desc()))
        .select((orders::customer_id, orders::status));
    report("read distinct on", plain(distinct.load::<(i32, String)>(connection)));
    let tagged = products::table
        .filter(products::tags.contains(vec!["steel"]))
        .or_filter(products::attributes.has_key("weight"))
        .order(products::id);
    report(
        "read by arrays and JSON",
        plain(tagged.select((products::sku, products::attributes.retrieve_as_text("weight").nullable())).load::<(
            String,
            Option<String>,
        )>(
            connection
        )),
    );
    let union = customers::table
        .select(customers::name)
        .filter(customers::id.eq(1))
        .union(products::table.select(products::title).filter(products::category.eq(Category::Toy)));
    report(
        "read a union",
        plain(union.load::<String>(connection).map(|mut names| {
            names.sort();
            names
        })),
    );
    let raw = diesel::sql_query("SELECT id, email FROM customers WHERE id > $1 AND birth < $2 ORDER BY id")
        .bind::<Integer, _>(0)
        .bind::<Nullable<Date>, _>(NaiveDate::from_ymd_opt(2000, 1, 1));
    report("read by SQL", plain(raw.load::<Mail>(connection)));
    report(
        "read by a part in SQL",
        plain(
            customers::table
                .select(sql::<Text>("to_jsonb(customers)::text"))
                .order(customers::id)
                .load::<String>(connection),
        ),
    );
    report(
        "read boxed",
        plain(
            orders::table
                .into_boxed()
                .filter(orders::status.eq("new"))
                .order(orders::id)
                .select(orders::id)
                .load::<i32>(connection),
        ),
    );
    report(
        "read locked",
        plain(connection.transaction(|connection| {
            customers::table
                .filter(customers::id.le(2))
                .order(customers::id)
                .select(customers::credit)
                .for_update()
                .skip_locked()
                .load::<BigDecimal>(connection)
        })),
    );
    diesel::define_sql_function! { fn order_total(of: Integer) -> Numeric; }
    report("read through a function", plain(diesel::select(order_total(1)).get_result::<BigDecimal>(connection)));
    let ranges =
        diesel::select((Bound::Included(1), Bound::Excluded(5)).into_sql::<diesel::sql_types::Range<Integer>>());
    report("read a range", plain(ranges.get_result::<(Bound<i32>, Bound<i32>)>(connection)));
}

fn write(connection: &mut PgConnection) {
    let dan = NewCustomer {
        name: "Dan",
        email: "q***@example.com",
        card: Some("************1234"),
        birth: NaiveDate::from_ymd_opt(1990, 1, 1),
        credit: 2000.into(),
    };
    report(
        "write insert",
        plain(
            diesel::insert_into(customers::table)
                .values(&dan)
                .returning(Customer::as_returning())
                .get_result(connection),
        ),
    );
    let update =
        diesel::update(customers::table.find(1)).set(Changes { name: Some("Ada L"), card: Some("**********0001") });
    report(
        "write update",
        plain(update.returning((customers::name, customers::email)).get_result::<(String, String)>(connection)),
    );
    let types = (
        products::sku.eq("P-1"),
        products::title.eq("Pen"),
        products::price.eq("1.20".parse::<BigDecimal>().unwrap_or_default()),
        products::tags.eq(vec!["a", "b \"c\""]),
        products::attributes.eq(serde_json::json!({"ink": ["blue"]})),
        products::picture.eq(vec![0_u8, 1, 255]),
        products::uid.eq(Uuid::from_u128(10)),
        products::category.eq(Category::Toy),
    );
    report(
        "write types",
        plain(
            diesel::insert_into(products::table)
                .values(types)
                .returning(Product::as_returning())
                .get_result(connection),
        ),
    );
    let batch: Vec<_> = (0..50)
        .map(|number| NewOrder { customer_id: 3, note: (number % 2 == 0).then(|| format!("batch {number}")) })
        .collect();
    report("batch insert", plain(diesel::insert_into(orders::table).values(&batch).execute(connection)));
    let upsert = diesel::insert_into(products::table).values((
        products::sku.eq("H-1"),
        products::title.eq("Big hammer"),
        products::price.eq(BigDecimal::from(5)),
    ));
    let upsert = upsert.on_conflict(products::sku).do_update().set(products::title.eq(excluded(products::title)));
    report(
        "write upsert",
        plain(upsert.returning((products::sku, products::title)).get_result::<(String, String)>(connection)),
    );
    let ignored = diesel::insert_into(products::table).values((
        products::sku.eq("H-1"),
        products::title.eq("x"),
        products::price.eq(BigDecimal::from(1)),
    ));
    report("write or do nothing", plain(ignored.on_conflict_do_nothing().execute(connection)));
    let selected =
        customers::table.filter(customers::birth.is_null()).select((customers::id, customers::name.nullable()));
    report(
        "write from a select",
        plain(
            diesel::insert_into(orders::table)
                .values(selected)
                .into_columns((orders::customer_id, orders::note))
                .execute(connection),
        ),
    );
    let increased = diesel::update(order_items::table.filter(order_items::line.eq(2)))
        .set(order_items::quantity.eq(order_items::quantity + 1));
    report("write an expression", plain(increased.returning(order_items::quantity).get_results::<i32>(connection)));
    report("write delete", plain(diesel::delete(products::table.filter(products::sku.eq("P-1"))).execute(connection)));
    report(
        "batch of statements",
        plain(
            connection.batch_execute(
                "UPDATE orders SET note = 'two' WHERE id = 2; UPDATE orders SET note = 'one' WHERE id = 1",
            ),
        ),
    );
}

fn transactions(connection: &mut PgConnection) {
    let items = |connection: &mut PgConnection| order_items::table.count().get_result::<i64>(connection);
    let committed = connection.build_transaction().serializable().read_write().run(|connection| {
        diesel::update(orders::table.find(1))
            .set(orders::status.eq("sent"))
            .returning(orders::status)
            .get_result::<String>(connection)
    });
    report("transaction commit", plain(committed));
    let rolled_back = connection.transaction::<(), Error, _>(|connection| {
        diesel::delete(order_items::table).execute(connection)?;
        Err(Error::RollbackTransaction)
    });
    report("transaction rollback", plain(items(connection)).map(|items| (rolled_back, items)));
    let savepoints = connection.transaction::<_, Error, _>(|connection| {
        let item = |order: i32, line: i16| {
            (order_items::order_id.eq(order), order_items::line.eq(line), order_items::product_id.eq(1_i64))
        };
        connection
            .transaction(|connection| diesel::insert_into(order_items::table).values(item(3, 2)).execute(connection))?;
        let lost = connection
            .transaction(|connection| diesel::insert_into(order_items::table).values(item(99, 1)).execute(connection));
        Ok((kind(lost), items(connection)?))
    });
    report("transaction savepoints", plain(savepoints));
    let read_only = connection
        .build_transaction()
        .read_only()
        .deferrable()
        .repeatable_read()
        .run(|connection| diesel::delete(orders::table).execute(connection));
    refused("transaction read only", plain(read_only));
    let aborted = connection.transaction::<_, Error, _>(|connection| {
        let first = kind(diesel::sql_query("SELECT 1 / 0").execute(connection));
        let second = kind(diesel::sql_query("SELECT 1").execute(connection));
        println!("transaction aborted: {first:?} {second:?}");
        Ok(())
    });
    report("transaction aborted, committed", Ok(kind(aborted)));
    let tested = {
        let begun = connection.begin_test_transaction();
        let written = diesel::update(orders::table).set(orders::note.eq("test")).execute(connection);
        let ended = diesel::sql_query("ROLLBACK").execute(connection);
        begun.and(written).and(ended)
    };
    report("transaction of a test", plain(tested));
}

fn prepared(connection: &mut PgConnection) {
    let again = (1..=3).map(|id| {
        customers::table.find(id).select((customers::name, customers::email)).first::<(String, String)>(connection)
    });
    report("prepared again and again", plain(again.collect::<Result<Vec<_>, _>>()));
    connection.set_prepared_statement_cache_size(diesel::connection::CacheSize::Disabled);
    let unnamed =
        (1..=2).map(|id| customers::table.find(id).select(customers::birth).first::<Option<NaiveDate>>(connection));
    report("prepared without a name", plain(unnamed.collect::<Result<Vec<_>, _>>()));
    connection.set_prepared_statement_cache_size(diesel::connection::CacheSize::Unbounded);
    let mut changed = || {
        diesel::table! { changing { id -> Int4, a -> Text } }
        connection.batch_execute(
            "CREATE TABLE changing (id int PRIMARY KEY, a text); INSERT INTO changing VALUES (1, 'x')",
        )?;
        let before: Vec<(i32, String)> = changing::table.load(connection)?;
        connection.batch_execute("ALTER TABLE changing ALTER COLUMN a TYPE varchar(10)")?;
        let stale = kind(changing::table.load::<(i32, String)>(connection));
        connection.batch_execute("DROP TABLE changing")?;
        Ok((before, stale))
    };
    report("prepared over a changed table", changed());
}

fn cursors(connection: &mut PgConnection) {
    let by_row = customers::table
        .order(customers::id)
        .select(customers::card)
        .load_iter::<Option<String>, PgRowByRowLoadingMode>(connection);
    report("cursor row by row", plain(by_row.and_then(|rows| rows.collect::<Result<Vec<_>, _>>())));
    let early = customers::table
        .order(customers::id)
        .select(customers::name)
        .load_iter::<String, PgRowByRowLoadingMode>(connection)
        .and_then(|mut rows| rows.next().transpose());
    report("cursor left early", plain(early));
    let at_once = customers::table
        .order(customers::id)
        .select(customers::email)
        .load_iter::<String, DefaultLoadingMode>(connection);
    report("cursor at once", plain(at_once.and_then(|rows| rows.collect::<Result<Vec<_>, _>>())));
    let declared = connection.transaction(|connection| {
        connection.batch_execute("DECLARE c CURSOR FOR SELECT id, email FROM customers ORDER BY id")?;
        let first = diesel::sql_query("FETCH 2 FROM c").load::<Mail>(connection)?;
        Ok::<_, Error>((first, diesel::sql_query("FETCH 2 FROM c").load::<Mail>(connection)?))
    });
    report("cursor in SQL", plain(declared));
}

fn copies(connection: &mut PgConnection) {
    let rows: Vec<_> =
        (0..20).map(|number| NewOrder { customer_id: 2, note: Some(format!("copied {number}")) }).collect();
    report("copy in", plain(diesel::copy_from(orders::table).from_insertable(&rows).execute(connection)));
    let raw =
        diesel::copy_from(customers::table).from_raw_data((customers::name, customers::email, customers::card), |to| {
            to.write_all(b"name,email,card\nEve,e***@example.com,************5678\nFay,f***@example.com,\n")
                .map_err(|error| Error::SerializationError(error.into()))
        });
    report(
        "copy in as text",
        plain(raw.with_format(CopyFormat::Csv).with_header(CopyHeader::Set(true)).execute(connection)),
    );
    let unknown = [NewOrder { customer_id: 99, note: None }];
    refused(
        "copy of an unknown customer",
        plain(diesel::copy_from(orders::table).from_insertable(&unknown[..]).execute(connection)),
    );
    let left = diesel::copy_from(orders::table).from_raw_data((orders::customer_id,), |to| {
        to.write_all(b"1\n").map_err(|error| Error::SerializationError(error.into()))?;
        Err(Error::RollbackTransaction)
    });
    report("copy left", Ok(left.execute(connection).map_err(|error| error.to_string())));
    let text = diesel::copy_to((customers::id, customers::card))
        .with_format(CopyFormat::Csv)
        .with_header(true)
        .load_raw(connection);
    let read = |mut rows: Box<dyn std::io::BufRead + '_>| {
        let mut text = String::new();
        rows.read_to_string(&mut text)?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    report("copy out as text", text.map_err(Into::into).and_then(|rows| read(Box::new(rows))));
    let contacts = || {
        // Of its own: diesel leaves the end of these unread.
        let mut connection = PgConnection::establish(&Target::from_environment().url())?;
        let rows = diesel::copy_to(customers::table).load::<Contact, _>(&mut connection)?;
        let mut contacts = rows.collect::<Result<Vec<_>, _>>()?;
        contacts.sort_by_key(|contact| contact.id);
        Ok(contacts)
    };
    report("copy out", contacts());
}

fn failures(connection: &mut PgConnection) {
    let cast = ("cast", "SELECT name::int FROM customers WHERE id = 2");
    for (name, text) in FAILURES.into_iter().chain([cast]) {
        refused(&format!("error {name}"), plain(diesel::sql_query(text).execute(connection)));
    }
    let failed =
        diesel::sql_query("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)").execute(connection);
    let fields = match failed {
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, about)) => {
            Ok([about.constraint_name(), about.table_name(), about.details(), about.hint()]
                .map(|field| field.map(str::to_owned)))
        }
        other => Err(format!("{other:?}").into()),
    };
    report("error fields", fields);
}

fn sessions(connection: &mut PgConnection) {
    let mut notified = || {
        connection.batch_execute("LISTEN news")?;
        diesel::sql_query("SELECT pg_notify('news', $1)").bind::<Text, _>("hello").execute(connection)?;
        let heard: Vec<_> = connection
            .notifications_iter()
            .map(|heard| heard.map(|heard| (heard.channel, heard.payload)))
            .collect::<Result<_, _>>()?;
        connection.batch_execute("UNLISTEN *")?;
        Ok(heard)
    };
    report("session notifications", notified());
    let mut temporary = || {
        connection.batch_execute("CREATE TEMP TABLE picked AS SELECT id, email FROM customers WHERE id < 4")?;
        Ok(diesel::sql_query("SELECT * FROM picked ORDER BY id").load::<Mail>(connection)?)
    };
    report("session temporary table", temporary());
    let setting = diesel::select(sql::<Text>("set_config('app.tenant', ").bind::<Text, _>("7").sql(", false)"));
    report("session settings", plain(setting.get_result::<String>(connection)));
}

/// What a pool does with a new connection.
#[derive(Debug)]
struct Tenant;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Tenant {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        connection.batch_execute("SET app.tenant = 'new'").map_err(diesel::r2d2::Error::QueryError)
    }
}

fn pools() {
    let used = || {
        let manager = ConnectionManager::<PgConnection>::new(Target::from_environment().url());
        let pool = Pool::builder()
            .max_size(2)
            .test_on_check_out(true)
            .connection_customizer(Box::new(Tenant))
            .build(manager)?;
        let numbers: Vec<_> = (0..6)
            .map(|number| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    let twice = diesel::select((number * 2).into_sql::<Integer>());
                    twice.get_result::<i32>(&mut pool.get().ok()?).ok()
                })
            })
            .collect();
        let numbers: Vec<_> = numbers.into_iter().map(|thread| thread.join().ok().flatten()).collect();
        let tenant =
            diesel::select(sql::<Text>("current_setting('app.tenant')")).get_result::<String>(&mut pool.get()?)?;
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pool.get().map(|mut connection| {
                connection.transaction(|_| -> QueryResult<()> { std::panic::resume_unwind(Box::new(())) })
            })
        }));
        let after = customers::table.find(1).select(customers::email).first::<String>(&mut pool.get()?)?;
        Ok((numbers, tenant, panicked.is_err(), after))
    };
    report("pool of two", used());
}
