//! sqlx: what `query!` asks the server about a statement, and `query!` itself, compiled against the database; rows as
//! structs, streams, the pool, migrations, COPY, its listener and its advisory locks.

use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use clients::{FAILURES, Outcome, Target, refused, report, state};
use futures_util::TryStreamExt as _;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::postgres::{
    PgAdvisoryLock, PgConnectOptions, PgConnection, PgDatabaseError, PgListener, PgPoolCopyExt as _, PgPoolOptions,
    PgRow,
};
use sqlx::{
    Acquire as _, Column as _, Connection as _, Either, Executor as _, FromRow, PgPool, QueryBuilder, Row as _,
    Statement as _, TypeInfo as _,
};
use uuid::Uuid;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlx");

#[derive(Debug, FromRow)]
#[expect(dead_code, reason = "read by Debug")]
struct Customer {
    id: i32,
    name: String,
    email: String,
    card: Option<String>,
    birth: Option<NaiveDate>,
    credit: Decimal,
    active: bool,
    joined: DateTime<Utc>,
}

#[derive(Debug, PartialEq, sqlx::Type)]
#[sqlx(type_name = "category", rename_all = "lowercase")]
enum Category {
    Tool,
    Toy,
    Book,
}

#[derive(Debug, FromRow)]
#[expect(dead_code, reason = "read by Debug")]
struct Product {
    id: i64,
    sku: String,
    category: Category,
    price: Decimal,
    tags: Vec<String>,
    attributes: Value,
    picture: Option<Vec<u8>>,
    uid: Option<Uuid>,
}

#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "order_items")]
struct Item {
    order_id: Option<i32>,
    line: Option<i16>,
    product_id: Option<i64>,
    quantity: Option<i32>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    clients::versions(&["sqlx"]);
    let options: PgConnectOptions = Target::from_environment().url().parse()?;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await?;
    connects(&options).await;
    describe(&pool).await;
    checked();
    migrate(&pool).await;
    read(&pool).await;
    write(&pool).await;
    transactions(&pool).await;
    prepared(&options).await;
    batches(&pool).await;
    copies(&pool, &options).await;
    failures(&pool).await;
    sessions(&pool).await;
    pools(&options).await;
    let all = sqlx::query_as::<_, Customer>("SELECT * FROM customers ORDER BY id");
    report("read at the end", plain(all.fetch_all(&pool).await));
    Ok(())
}

/// An outcome with its error as any.
fn plain<T>(outcome: sqlx::Result<T>) -> Outcome<T> {
    Ok(outcome?)
}

async fn connects(options: &PgConnectOptions) {
    let first = async {
        let mut connection = PgConnection::connect_with(options).await?;
        connection.ping().await?;
        let version = connection.server_version_num().is_some();
        let name: String = sqlx::query_scalar("SHOW application_name").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok((version, name))
    };
    report("connect", first.await);
    let with_options = async {
        let options = options.clone().options([("search_path", "pg_catalog"), ("statement_timeout", "12345")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        let path: String = sqlx::query_scalar("SHOW search_path").fetch_one(&mut connection).await?;
        let timeout: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut connection).await?;
        Ok((path, timeout))
    };
    report("connect with options", with_options.await);
}

/// What `query!` learns of a statement while it is compiled: the types of parameters and columns, and what may be NULL.
async fn described(pool: &PgPool, sql: &'static str) -> Outcome<(Vec<String>, Vec<(String, String, Option<bool>)>)> {
    let mut connection = pool.acquire().await?;
    let about = (&mut *connection).describe(sqlx::SqlSafeStr::into_sql_str(sql)).await?;
    let parameters = match about.parameters() {
        Some(Either::Left(types)) => types.iter().map(|parameter| parameter.name().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    let columns = about.columns().iter().enumerate();
    let columns = columns
        .map(|(at, column)| (column.name().to_owned(), column.type_info().name().to_owned(), about.nullable(at)));
    Ok((parameters, columns.collect()))
}

async fn describe(pool: &PgPool) {
    for (name, sql) in [
        ("key", "SELECT id, name, active, joined FROM customers WHERE id = $1"),
        ("masked columns", "SELECT id, email, card, birth, credit FROM customers WHERE email = $1 AND birth > $2"),
        ("all columns", "SELECT * FROM products"),
        (
            "outer join",
            "SELECT p.sku, i.line, o.note, o.status FROM products p LEFT JOIN order_items i ON i.product_id = p.id LEFT JOIN orders o ON o.id = i.order_id",
        ),
        (
            "outer join of masked rows",
            "SELECT o.id, c.name, c.active FROM orders o LEFT JOIN customers c ON c.id = o.customer_id AND c.email = $1",
        ),
        ("aggregate", "SELECT customer_id, count(*) AS orders, max(placed) FROM orders GROUP BY customer_id"),
        ("view", "SELECT id, name, orders FROM customer_orders"),
        ("insert", "INSERT INTO customers (name, email, credit) VALUES ($1, $2, $3) RETURNING id, name"),
        ("update", "UPDATE products SET price = $2, tags = $3, category = $4 WHERE sku = $1"),
        ("array", "SELECT name FROM customers WHERE id = ANY ($1)"),
        ("composite", "SELECT i FROM order_items i"),
    ] {
        report(&format!("describe {name}"), described(pool, sql).await);
    }
    for (name, sql) in [
        ("unknown column", "SELECT nosuch FROM customers"),
        ("hidden column", "SELECT ssn FROM customers"),
        ("syntax", "SELEC 1"),
    ] {
        refused(&format!("describe {name}"), described(pool, sql).await);
    }
}

/// Compiles `query!` against the database, and runs what was compiled.
fn checked() {
    let built = || {
        let output = Command::new("cargo")
            .args(["run", "--quiet", "--locked", "--offline", "--bin", "sqlx_checked"])
            .env("CARGO_TARGET_DIR", "target")
            .env("DATABASE_URL", Target::from_environment().url())
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect::<Vec<_>>()),
            false => Err(String::from_utf8_lossy(&output.stderr).replace('\n', " ").into()),
        }
    };
    report("describe by query!", built());
}

async fn migrate(pool: &PgPool) {
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    let applied = async {
        MIGRATIONS.run(pool).await?;
        MIGRATIONS.run(pool).await?;
        let weights: Vec<Option<i32>> =
            sqlx::query_scalar("SELECT weight FROM parcels ORDER BY id").fetch_all(pool).await?;
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(pool).await?;
        Ok((weights, tables))
    };
    report("schema migrated", applied.await);
    let known = "SELECT version, description, success FROM _sqlx_migrations ORDER BY 1";
    report("schema versions", plain(sqlx::query_as::<_, (i64, String, bool)>(known).fetch_all(pool).await));
    let undone = async {
        MIGRATIONS.undo(pool, 0).await?;
        sqlx::raw_sql("DROP TABLE _sqlx_migrations").execute(pool).await?;
        Ok(sqlx::query_scalar::<_, String>(tables).fetch_all(pool).await?)
    };
    report("schema undone", undone.await);
}

async fn read(pool: &PgPool) {
    let all = sqlx::query_as::<_, Customer>("SELECT * FROM customers ORDER BY id");
    report("read all", plain(all.fetch_all(pool).await));
    let products = sqlx::query_as::<_, Product>("SELECT * FROM products ORDER BY id");
    report("read products", plain(products.fetch_all(pool).await));
    let one = sqlx::query_as::<_, (String, Option<String>)>("SELECT name, card FROM customers WHERE id = $1").bind(2);
    report("read one", plain(one.fetch_one(pool).await));
    let none = sqlx::query_scalar::<_, String>("SELECT name FROM customers WHERE id = $1").bind(99);
    report("read none", plain(none.fetch_optional(pool).await));
    let any = sqlx::query_as::<_, (i32, String)>("SELECT id, email FROM customers WHERE id = ANY ($1) ORDER BY id")
        .bind(vec![1, 3]);
    report("read any of", plain(any.fetch_all(pool).await));
    let mask = sqlx::query_scalar::<_, i32>("SELECT id FROM customers WHERE email = $1").bind("m***@example.org");
    report("read by a mask", plain(mask.fetch_all(pool).await));
    let streamed = sqlx::query("SELECT credit FROM customers ORDER BY id")
        .fetch(pool)
        .and_then(|row: PgRow| async move { row.try_get::<Decimal, _>("credit") });
    report("read as a stream", plain(streamed.try_collect::<Vec<_>>().await));
    let built = async {
        let mut query = QueryBuilder::new("SELECT name FROM customers WHERE email IN (");
        let mut emails = query.separated(", ");
        for email in ["m***@example.com", "m***@example.net"] {
            emails.push_bind(email);
        }
        query.push(") ORDER BY id LIMIT ").push_bind(5_i64);
        Ok(query.build_query_scalar::<String>().fetch_all(pool).await?)
    };
    report("read by a built query", built.await);
    let raw = async {
        let rows = sqlx::raw_sql("SELECT card FROM customers WHERE id = 1; SELECT email FROM customers WHERE id = 2")
            .fetch_all(pool)
            .await?;
        Ok(rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?)
    };
    report("read several results", raw.await);
    let composite = sqlx::query_scalar::<_, Item>("SELECT i FROM order_items i ORDER BY order_id, line");
    report("read whole rows", plain(composite.fetch_all(pool).await));
    let rows = sqlx::query_scalar::<_, Value>("SELECT to_jsonb(c) FROM customers c ORDER BY id");
    report("read rows as JSON", plain(rows.fetch_all(pool).await));
    let view = sqlx::query_as::<_, (i32, String, String, i64)>(
        "SELECT id, name, email, orders FROM customer_orders ORDER BY id",
    );
    report("read view", plain(view.fetch_all(pool).await));
    let called = sqlx::query_scalar::<_, Decimal>("SELECT order_total($1)").bind(1);
    report("read through a function", plain(called.fetch_one(pool).await));
    let from = async {
        let row = sqlx::query("SELECT id, email FROM customers WHERE id = 1").fetch_one(pool).await?;
        Ok(row
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.relation_attribute_no()))
            .collect::<Vec<_>>())
    };
    report("read where columns are from", from.await);
}

async fn write(pool: &PgPool) {
    let insert = sqlx::query_as::<_, (i32, String, String, Option<NaiveDate>, Decimal)>(
        "INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING id, name, email, birth, credit",
    );
    let dan = insert
        .bind("Dan")
        .bind("q***@example.com")
        .bind("************1234")
        .bind(NaiveDate::from_ymd_opt(1990, 1, 1))
        .bind(Decimal::new(2000, 0));
    report("write insert", plain(dan.fetch_one(pool).await));
    let update = sqlx::query("UPDATE customers SET name = $2, card = $3 WHERE id = $1")
        .bind(1)
        .bind("Ada L")
        .bind("**********0001");
    report("write update", plain(update.execute(pool).await).map(|done| done.rows_affected()));
    let types = sqlx::query_as::<_, Product>(
        "INSERT INTO products (sku, title, price, tags, attributes, picture, uid, category) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *",
    );
    let pen = types
        .bind("P-1")
        .bind("Pen")
        .bind(Decimal::new(120, 2))
        .bind(vec!["a", "b \"c\""])
        .bind(sqlx::types::Json(serde_json::json!({"ink": ["blue"]})))
        .bind(vec![0_u8, 1, 255])
        .bind(Uuid::from_u128(10))
        .bind(Category::Toy);
    report("write types", plain(pen.fetch_one(pool).await));
    let many = async {
        let mut query = QueryBuilder::new("INSERT INTO orders (customer_id, note) ");
        query.push_values([(1, Some("one")), (2, None)], |mut row, (customer, note)| {
            row.push_bind(customer).push_bind(note);
        });
        query.push(" RETURNING customer_id, note");
        Ok(query.build_query_as::<(i32, Option<String>)>().fetch_all(pool).await?)
    };
    report("write many", many.await);
    let unnested = sqlx::query("INSERT INTO orders (customer_id, note) SELECT * FROM unnest($1::int[], $2::text[])")
        .bind(vec![3; 30])
        .bind(vec!["many"; 30]);
    report("write arrays", plain(unnested.execute(pool).await).map(|done| done.rows_affected()));
    let upsert = sqlx::query_as::<_, (String, String)>(
        "INSERT INTO products (sku, title, price) VALUES ($1, $2, 5) ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title",
    );
    report("write upsert", plain(upsert.bind("H-1").bind("Big hammer").fetch_one(pool).await));
    let delete = sqlx::query("DELETE FROM products WHERE sku = $1").bind("P-1");
    report("write delete", plain(delete.execute(pool).await).map(|done| done.rows_affected()));
}

async fn transactions(pool: &PgPool) {
    let count = "SELECT count(*) FROM order_items";
    let committed = async {
        let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
        sqlx::query("UPDATE orders SET status = 'sent' WHERE id = 1").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(sqlx::query_scalar::<_, String>("SELECT status FROM orders WHERE id = 1").fetch_one(pool).await?)
    };
    report("transaction commit", committed.await);
    let left = async {
        let mut transaction = pool.begin().await?;
        sqlx::query("DELETE FROM order_items").execute(&mut *transaction).await?;
        drop(transaction); // Rolls back before its connection is used again.
        Ok(sqlx::query_scalar::<_, i64>(count).fetch_one(pool).await?)
    };
    report("transaction left", left.await);
    let savepoints = async {
        let mut outer = pool.begin().await?;
        let mut kept = outer.begin().await?;
        sqlx::query("INSERT INTO order_items VALUES (3, 2, 2, 5)").execute(&mut *kept).await?;
        kept.commit().await?;
        let mut lost = outer.begin().await?;
        let failed = sqlx::query("INSERT INTO order_items VALUES (99, 1, 1, 1)").execute(&mut *lost).await;
        lost.rollback().await?;
        outer.commit().await?;
        Ok((
            failed.map(|_| ()).map_err(|error| state(&error)),
            sqlx::query_scalar::<_, i64>(count).fetch_one(pool).await?,
        ))
    };
    report("transaction savepoints", savepoints.await);
    let read_only = async {
        let mut transaction = pool.begin_with("BEGIN READ ONLY").await?;
        Ok(sqlx::query("DELETE FROM orders").execute(&mut *transaction).await?.rows_affected())
    };
    refused("transaction read only", read_only.await);
    let aborted = async {
        let mut transaction = pool.begin().await?;
        let first =
            sqlx::query("SELECT 1 / 0").execute(&mut *transaction).await.map(|_| ()).map_err(|error| state(&error));
        let second =
            sqlx::query("SELECT 1").execute(&mut *transaction).await.map(|_| ()).map_err(|error| state(&error));
        transaction.commit().await?;
        Ok((first, second))
    };
    report("transaction aborted", aborted.await);
}

async fn prepared(options: &PgConnectOptions) {
    let reused = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let statement = (&mut connection)
            .prepare(sqlx::SqlSafeStr::into_sql_str("SELECT name, email FROM customers WHERE id = $1"))
            .await?;
        let mut all = Vec::new();
        for id in 1..=3 {
            all.push(statement.query_as::<(String, String)>().bind(id).fetch_one(&mut connection).await?);
        }
        let cached = connection.cached_statements_size();
        connection.clear_cached_statements().await?;
        Ok((all, cached, connection.cached_statements_size()))
    };
    report("prepared again and again", reused.await);
    let unnamed = async {
        let mut connection = PgConnection::connect_with(&options.clone().statement_cache_capacity(0)).await?;
        let mut all = Vec::new();
        for id in 1..=2 {
            let birth = sqlx::query_scalar::<_, NaiveDate>("SELECT birth FROM customers WHERE id = $1")
                .persistent(false)
                .bind(id);
            all.push(birth.fetch_one(&mut connection).await?);
        }
        Ok(all)
    };
    report("prepared not to be kept", unnamed.await);
    let few = async {
        let mut connection = PgConnection::connect_with(&options.clone().statement_cache_capacity(1)).await?;
        let mut all = Vec::new();
        for _ in 0..2 {
            all.push(
                sqlx::query_scalar::<_, String>("SELECT card FROM customers WHERE id = $1")
                    .bind(1)
                    .fetch_one(&mut connection)
                    .await?,
            );
            all.push(
                sqlx::query_scalar::<_, String>("SELECT email FROM customers WHERE id = $1")
                    .bind(1)
                    .fetch_one(&mut connection)
                    .await?,
            );
        }
        Ok((all, connection.cached_statements_size()))
    };
    report("prepared in a cache of one", few.await);
    let changed = async {
        let mut connection = PgConnection::connect_with(options).await?;
        sqlx::raw_sql("CREATE TABLE changing (id int, a text); INSERT INTO changing VALUES (1, 'x')")
            .execute(&mut connection)
            .await?;
        let all = "SELECT * FROM changing";
        let before = sqlx::query(all).fetch_one(&mut connection).await?.len();
        sqlx::raw_sql("ALTER TABLE changing ADD COLUMN b int DEFAULT 2").execute(&mut connection).await?;
        let stale =
            sqlx::query(all).fetch_one(&mut connection).await.map(|row| row.len()).map_err(|error| state(&error));
        connection.clear_cached_statements().await?;
        let after = sqlx::query(all).fetch_one(&mut connection).await?.len();
        sqlx::raw_sql("DROP TABLE changing").execute(&mut connection).await?;
        Ok((before, stale, after))
    };
    report("prepared over a changed table", changed.await);
}

async fn batches(pool: &PgPool) {
    let several = sqlx::raw_sql(
        "UPDATE orders SET note = 'two' WHERE id = 2; SELECT id FROM orders WHERE note = 'two'; DELETE FROM order_items WHERE line = 9",
    );
    let results = several.fetch_many(pool).map_ok(|result| match result {
        Either::Left(done) => format!("{} rows", done.rows_affected()),
        Either::Right(row) => format!("{:?}", row.try_get::<i32, _>(0).ok()),
    });
    report("batch of statements", plain(results.try_collect::<Vec<_>>().await));
    let undone =
        sqlx::raw_sql("UPDATE orders SET note = 'lost' WHERE id = 3; SELECT nosuch; SELECT 1").execute(pool).await;
    refused("batch with an error", plain(undone).map(|done| done.rows_affected()));
    let note = sqlx::query_scalar::<_, String>("SELECT note FROM orders WHERE id = 3");
    report("batch undone", plain(note.fetch_one(pool).await));
}

async fn copies(pool: &PgPool, options: &PgConnectOptions) {
    let text = async {
        let mut sink = pool.copy_in_raw("COPY orders (customer_id, note) FROM STDIN").await?;
        for number in 0..20 {
            sink.send(format!("2\tcopied {number}\n").into_bytes()).await?;
        }
        Ok(sink.finish().await?)
    };
    report("copy in", text.await);
    let file = async {
        let mut sink =
            pool.copy_in_raw("COPY public.customers (name, email, card) FROM STDIN WITH (FORMAT csv)").await?;
        sink.read_from(&b"Eve,e***@example.com,************5678\nFay,f***@example.com,\n"[..]).await?;
        Ok((sink.is_textual(), sink.num_columns(), sink.finish().await?))
    };
    report("copy in a file", file.await);
    let unknown = async {
        let mut sink = pool.copy_in_raw("COPY orders (customer_id) FROM STDIN").await?;
        sink.send(&b"99\n"[..]).await?;
        Ok(sink.finish().await?)
    };
    refused("copy of an unknown customer", unknown.await);
    let left = async {
        let mut sink = pool.copy_in_raw("COPY orders (customer_id) FROM STDIN").await?;
        sink.send(&b"1\n"[..]).await?;
        sink.abort("enough").await?;
        Ok(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM orders").fetch_one(pool).await?)
    };
    report("copy left", left.await);
    let out = async {
        let chunks = pool
            .copy_out_raw("COPY (SELECT id, email, card FROM customers ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
            .await?;
        Ok(String::from_utf8(chunks.try_collect::<Vec<_>>().await?.concat())?)
    };
    report("copy out", out.await);
    let hidden = async {
        // Of its own: sqlx reads no further after this, and would give the pool a connection out of step.
        let mut connection = PgConnection::connect_with(options).await?;
        Ok(connection.copy_out_raw("COPY customers (ssn) TO STDOUT").await?.try_collect::<Vec<_>>().await?)
    };
    refused("copy of a hidden column", hidden.await);
}

async fn failures(pool: &PgPool) {
    let cast = ("cast", "SELECT email::int FROM customers");
    for (name, sql) in FAILURES.into_iter().chain([cast]) {
        refused(&format!("error {name}"), plain(sqlx::query(sql).execute(pool).await).map(|done| done.rows_affected()));
    }
    let fields = async {
        let failed =
            sqlx::query("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)").execute(pool).await;
        let error = failed.err().ok_or("no error")?;
        let about = error.as_database_error().ok_or("no answer of the server's")?;
        let fields = about.downcast_ref::<PgDatabaseError>();
        let fields = [fields.constraint(), fields.table(), fields.schema(), fields.detail(), Some(fields.message())]
            .map(|field| field.map(str::to_owned));
        Ok((about.is_unique_violation(), fields))
    };
    report("error fields", fields.await);
    let timed_out = async {
        let mut connection = pool.acquire().await?;
        sqlx::query("SET statement_timeout = 50").execute(&mut *connection).await?;
        let slept = sqlx::query("SELECT pg_sleep(60)").execute(&mut *connection).await;
        sqlx::query("RESET statement_timeout").execute(&mut *connection).await?;
        Ok(slept?.rows_affected())
    };
    refused("error timeout", timed_out.await);
}

async fn sessions(pool: &PgPool) {
    let notified = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all(["news"]).await?;
        sqlx::query("SELECT pg_notify('news', $1)").bind("hello").execute(pool).await?;
        let heard = listener.recv().await?;
        listener.unlisten_all().await?;
        Ok((heard.channel().to_owned(), heard.payload().to_owned()))
    };
    report("session notifications", notified.await);
    let locked = async {
        let lock = PgAdvisoryLock::new("the shop's");
        let held = lock.acquire(pool.acquire().await?).await?;
        let other = lock.try_acquire(pool.acquire().await?).await?;
        let refused = other.is_right();
        held.release_now().await?;
        Ok(refused)
    };
    report("session advisory lock", locked.await);
    let own = async {
        let mut connection = pool.acquire().await?;
        sqlx::raw_sql("CREATE TEMP TABLE picked AS SELECT id, card FROM customers").execute(&mut *connection).await?;
        sqlx::query("SELECT set_config('app.tenant', $1, false)").bind("7").execute(&mut *connection).await?;
        let tenant: String =
            sqlx::query_scalar("SELECT current_setting('app.tenant')").fetch_one(&mut *connection).await?;
        let picked = sqlx::query_as::<_, (i32, Option<String>)>("SELECT * FROM picked ORDER BY id")
            .fetch_all(&mut *connection)
            .await?;
        connection.close().await?;
        Ok((tenant, picked))
    };
    report("session of its own", own.await);
}

async fn pools(options: &PgConnectOptions) {
    let reset = async {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move { sqlx::query("SET app.tenant = 'new'").execute(connection).await.map(|_| ()) })
            })
            .after_release(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql("RESET ALL; UNLISTEN *; CLOSE ALL").execute(connection).await.map(|_| true)
                })
            })
            .test_before_acquire(true)
            .connect_with(options.clone())
            .await?;
        let mut paths = Vec::new();
        for _ in 0..2 {
            let mut connection = pool.acquire().await?;
            let path: String = sqlx::query_scalar("SHOW search_path").fetch_one(&mut *connection).await?;
            let tenant: Option<String> =
                sqlx::query_scalar("SELECT current_setting('app.tenant', true)").fetch_one(&mut *connection).await?;
            paths.push((path, tenant));
            sqlx::query("SET search_path TO pg_catalog").execute(&mut *connection).await?;
        }
        pool.close().await;
        Ok(paths)
    };
    report("pool reset", reset.await);
    let exhausted = async {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(1))
            .connect_with(options.clone())
            .await?;
        let held = pool.acquire().await?;
        let second = pool.acquire().await.map(|_| ()).map_err(|error| error.to_string());
        drop(held);
        pool.acquire().await?;
        Ok(second)
    };
    report("pool exhausted", exhausted.await);
}
