//! tokio-postgres: binary results, statements in flight at the same time, portals, COPY as text and binary, notifications,
//! cancel requests; and deadpool with each of its ways to give a connection back.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use clients::{FAILURES, Outcome, Target, refused, report, state};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::future::{join, join_all, try_join_all};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use rust_decimal::Decimal;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, Kind, ToSql, Type};
use tokio_postgres::{
    AsyncMessage, Client, Config, GenericClient, IsolationLevel, NoTls, Row, SimpleQueryMessage, Statement,
};
use uuid::Uuid;

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A value of any type that is sent as its text, such as an enumeration's.
struct Label(String);

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn shown<'a, T: FromSql<'a> + std::fmt::Debug>(row: &'a Row, at: usize) -> Result<String, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<T>>(at)?.map_or("null".into(), |value| format!("{value:?}")))
}

/// A row's values, each read as its type says.
fn values(row: &Row) -> Result<Vec<String>, tokio_postgres::Error> {
    let value = |(at, column): (usize, &tokio_postgres::Column)| match *column.type_() {
        Type::BOOL => shown::<bool>(row, at),
        Type::INT2 => shown::<i16>(row, at),
        Type::INT4 => shown::<i32>(row, at),
        Type::INT8 => shown::<i64>(row, at),
        Type::NUMERIC => shown::<Decimal>(row, at),
        Type::DATE => shown::<NaiveDate>(row, at),
        Type::TIMESTAMPTZ => shown::<DateTime<Utc>>(row, at),
        Type::TEXT | Type::VARCHAR | Type::NAME => shown::<String>(row, at),
        Type::TEXT_ARRAY => shown::<Vec<String>>(row, at),
        Type::JSON | Type::JSONB => shown::<Value>(row, at),
        Type::BYTEA => shown::<Vec<u8>>(row, at),
        Type::UUID => shown::<Uuid>(row, at),
        _ => Ok(row.try_get::<_, Option<Label>>(at)?.map_or("null".into(), |label| label.0)),
    };
    row.columns().iter().enumerate().map(value).collect()
}

async fn query(client: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Outcome<Vec<Vec<String>>> {
    let rows = client.query(sql, parameters).await?;
    Ok(rows.iter().map(values).collect::<Result<_, _>>()?)
}

async fn execute(client: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Outcome<u64> {
    Ok(client.execute(sql, parameters).await?)
}

fn config() -> Config {
    let Target { host, port, user, password, database } = Target::from_environment();
    let mut config = Config::new();
    config.host(host).port(port).user(user).password(password).dbname(database).application_name("orders");
    config
}

/// A session, and what the server says on its own.
async fn connect(config: &Config) -> Outcome<(Client, UnboundedReceiver<AsyncMessage>)> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let (heard, messages) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            // Who listens may be gone.
            let _ = heard.send(message);
        }
    });
    Ok((client, messages))
}

#[tokio::main]
async fn main() -> Outcome<()> {
    clients::versions(&["deadpool-postgres", "tokio-postgres"]);
    connects().await;
    let (mut client, messages) = connect(&config()).await?;
    introspect(&client).await;
    read(&client).await;
    write(&client).await;
    transactions(&mut client).await;
    prepared(&client).await;
    batches(&client).await;
    cursors(&mut client).await;
    copies(&client).await;
    failures(&client).await;
    sessions(&client, messages).await;
    pools().await;
    report(
        "read at the end",
        query(&client, "SELECT id, name, email, card, birth, credit FROM customers ORDER BY id", &[]).await,
    );
    Ok(())
}

async fn connects() {
    let first = async {
        let (client, connection) = config().connect(NoTls).await?;
        let parameters = ["client_encoding", "standard_conforming_strings", "TimeZone"]
            .map(|name| connection.parameter(name).map(str::to_owned));
        tokio::spawn(connection);
        client.check_connection().await?;
        Ok((parameters, client.is_closed()))
    };
    report("connect", first.await);
    let with_options = async {
        let (client, _) = connect(config().options("-c search_path=pg_catalog -c statement_timeout=12345")).await?;
        let path = query(&client, "SHOW search_path", &[]).await?;
        Ok((path, query(&client, "SHOW statement_timeout", &[]).await?))
    };
    report("connect with options", with_options.await);
    let writable = async {
        let (client, _) =
            connect(config().target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite)).await?;
        query(&client, "SELECT card FROM customers WHERE id = $1", &[&1]).await
    };
    report("connect for writing", writable.await);
}

/// What a driver learns of a statement's parameters and columns: where a masked column is from, it does not.
fn described(statement: &Statement) -> (String, Vec<(String, String, i32, bool)>) {
    let columns = statement.columns().iter().map(|column| {
        (column.name().to_owned(), column.type_().to_string(), column.type_modifier(), column.table_oid().is_some())
    });
    (format!("{:?}", statement.params()), columns.collect())
}

async fn introspect(client: &Client) {
    let statement = async {
        let sql = "SELECT id, name, active, joined FROM customers WHERE id = $1 AND email = $2 AND birth > $3";
        Ok(described(&client.prepare(sql).await?))
    };
    report("introspect statement", statement.await);
    let masked = async { Ok(described(&client.prepare("SELECT email, card, birth, credit FROM customers").await?)) };
    report("introspect masked columns", masked.await);
    let kinds = async {
        // Asks the catalog for types that it does not know.
        let statement = client.prepare("SELECT category, ARRAY[category], p FROM products p").await?;
        let kinds = statement.columns().iter().map(|column| match column.type_().kind() {
            Kind::Composite(fields) => {
                fields.iter().map(|field| format!("{} {}", field.name(), field.type_())).collect::<Vec<_>>().join(", ")
            }
            Kind::Array(member) => format!("array of {member}"),
            Kind::Enum(labels) => labels.join(", "),
            other => format!("{other:?}"),
        });
        Ok(kinds.collect::<Vec<_>>())
    };
    report("introspect types", kinds.await);
    let columns = "SELECT column_name::text, data_type::text, is_nullable::text, character_maximum_length::int FROM information_schema.columns
                   WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position";
    for table in ["customers", "products", "customer_orders"] {
        report(&format!("introspect columns of {table}"), query(client, columns, &[&table]).await);
    }
    let keys = "SELECT t.table_name::text, t.constraint_type::text, k.column_name::text FROM information_schema.table_constraints t
                JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name) ORDER BY 1, 2, 3";
    report("introspect keys", query(client, keys, &[]).await);
}

async fn read(client: &Client) {
    report("read all", query(client, "SELECT * FROM customers ORDER BY id", &[]).await);
    report("read products", query(client, "SELECT * FROM products ORDER BY id", &[]).await);
    let one = async { Ok(values(&client.query_one("SELECT name, card FROM customers WHERE id = $1", &[&2]).await?)?) };
    report("read one", one.await);
    let scalar =
        async { Ok(client.query_one_scalar::<String, _>("SELECT email FROM customers WHERE id = $1", &[&1]).await?) };
    report("read one value", scalar.await);
    let none = async { Ok(client.query_opt("SELECT name FROM customers WHERE id = $1", &[&99]).await?.is_none()) };
    report("read none", none.await);
    let too_many = client.query_one("SELECT name FROM customers", &[]).await;
    report("read too many", Ok(too_many.map_err(|error| error.to_string()).map(|row| row.len())));
    let any = "SELECT id, email FROM customers WHERE id = ANY ($1) ORDER BY id";
    report("read any of", query(client, any, &[&vec![1, 3]]).await);
    report("read by a mask", query(client, "SELECT id FROM customers WHERE email = $1", &[&"m***@example.org"]).await);
    let typed = async {
        let sql = "SELECT id, birth FROM customers WHERE birth >= $1 AND name LIKE $2 ORDER BY id";
        let since = NaiveDate::from_ymd_opt(1900, 1, 1);
        let rows = client.query_typed(sql, &[(&since, Type::DATE), (&"%b%", Type::TEXT)]).await?;
        Ok(rows.iter().map(values).collect::<Result<Vec<_>, _>>()?)
    };
    report("read with types given", typed.await);
    let simple = async {
        let messages = client
            .simple_query("SELECT id, card FROM customers ORDER BY id; SELECT name FROM customers WHERE id = 2")
            .await?;
        Ok(messages.iter().map(simple).collect::<Vec<_>>())
    };
    report("read as text", simple.await);
    let streamed = async {
        let rows = client.query_raw("SELECT credit FROM customers WHERE id <= $1 ORDER BY id", [3]).await?;
        let credits = rows.map(|row| row?.try_get::<_, Decimal>(0));
        Ok(credits.try_collect::<Vec<_>>().await?)
    };
    report("read as a stream", streamed.await);
    report("read view", query(client, "SELECT * FROM customer_orders ORDER BY id", &[]).await);
    report("read rows as JSON", query(client, "SELECT to_jsonb(c) FROM customers c ORDER BY id", &[]).await);
    report("read through a function", query(client, "SELECT order_total($1)", &[&1]).await);
    let joined = "SELECT c.email, o.id, sum(i.quantity) FROM customers c JOIN orders o ON o.customer_id = c.id LEFT JOIN order_items i ON i.order_id = o.id
                  GROUP BY c.id, o.id ORDER BY o.id";
    report("read joined", query(client, joined, &[]).await);
}

fn simple(message: &SimpleQueryMessage) -> String {
    match message {
        SimpleQueryMessage::Row(row) => {
            format!("{:?}", (0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>())
        }
        SimpleQueryMessage::CommandComplete(rows) => format!("{rows} rows"),
        SimpleQueryMessage::RowDescription(columns) => {
            format!("{:?}", columns.iter().map(|column| column.name()).collect::<Vec<_>>())
        }
        _ => "another message".into(),
    }
}

async fn write(client: &Client) {
    let insert = "INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING id, name, email, birth, credit";
    let born = NaiveDate::from_ymd_opt(1990, 1, 1);
    let dan: Parameters<'_> = &[&"Dan", &"q***@example.com", &"************1234", &born, &Decimal::new(2000, 0)];
    report("write insert", query(client, insert, dan).await);
    let update = "UPDATE customers SET name = $2, card = $3 WHERE id = $1";
    report("write update", execute(client, update, &[&1, &"Ada L", &"**********0001"]).await);
    let types = "INSERT INTO products (sku, title, price, tags, attributes, picture, uid, category) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::category)
                 RETURNING tags, attributes, picture, uid, category, price";
    let pen: Parameters<'_> = &[
        &"P-1",
        &"Pen",
        &Decimal::new(120, 2),
        &vec!["a", "b \"c\""],
        &serde_json::json!({"ink": ["blue"]}),
        &vec![0_u8, 1, 255],
        &Uuid::from_u128(10),
        &"toy",
    ];
    report("write types", query(client, types, pen).await);
    let upsert = "INSERT INTO products (sku, title, price) VALUES ($1, $2, $3) ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title";
    report("write upsert", query(client, upsert, &[&"H-1", &"Big hammer", &Decimal::new(5, 0)]).await);
    let many = "INSERT INTO orders (customer_id, note) SELECT * FROM unnest($1::int[], $2::text[]) RETURNING customer_id, note";
    report("write many", query(client, many, &[&vec![1, 2], &vec![Some("one"), None]]).await);
    report("write delete", execute(client, "DELETE FROM products WHERE sku = $1", &[&"P-1"]).await);
}

async fn transactions(client: &mut Client) {
    let committed = async {
        let transaction = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
        transaction.execute("UPDATE orders SET status = 'sent' WHERE id = $1", &[&1]).await?;
        transaction.commit().await?;
        query(client, "SELECT status FROM orders WHERE id = 1", &[]).await
    };
    report("transaction commit", committed.await);
    let left = async {
        let transaction = client.transaction().await?;
        transaction.execute("DELETE FROM order_items", &[]).await?;
        drop(transaction); // Rolls back.
        query(client, "SELECT count(*) FROM order_items", &[]).await
    };
    report("transaction left", left.await);
    let savepoints = async {
        let mut transaction = client.transaction().await?;
        let mut outer = transaction.savepoint("outer_one").await?;
        outer.execute("INSERT INTO order_items VALUES (3, 2, 2, 5)", &[]).await?;
        let inner = outer.transaction().await?;
        let failed = inner.execute("INSERT INTO order_items VALUES (99, 1, 1, 1)", &[]).await;
        inner.rollback().await?;
        outer.commit().await?;
        transaction.commit().await?;
        let items = query(client, "SELECT * FROM order_items ORDER BY 1, 2", &[]).await?;
        Ok((failed.map_err(|error| state(&error)), items))
    };
    report("transaction savepoints", savepoints.await);
    let read_only = async {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::Serializable)
            .read_only(true)
            .deferrable(true)
            .start()
            .await?;
        execute(&transaction, "DELETE FROM orders", &[]).await
    };
    refused("transaction read only", read_only.await);
    let aborted = async {
        let transaction = client.transaction().await?;
        let first = transaction.query("SELECT 1 / 0", &[]).await.map_err(|error| state(&error));
        let second = transaction.query("SELECT 1", &[]).await.map_err(|error| state(&error));
        transaction.commit().await?;
        let after = query(client, "SELECT 1", &[]).await?;
        Ok((first.map(|rows| rows.len()), second.map(|rows| rows.len()), after))
    };
    report("transaction aborted", aborted.await);
}

async fn prepared(client: &Client) {
    let reused = async {
        let statement = client.prepare("SELECT name, email FROM customers WHERE id = $1").await?;
        let mut all = Vec::new();
        for id in 1..=3 {
            all.push(values(&client.query_one(&statement, &[&id]).await?)?);
        }
        Ok(all)
    };
    report("prepared again and again", reused.await);
    let typed = async {
        let statement = client.prepare_typed("SELECT $1 + 1, $2 || 'x'", &[Type::INT8, Type::TEXT]).await?;
        Ok(values(&client.query_one(&statement, &[&41_i64, &"y"]).await?)?)
    };
    report("prepared with types", typed.await);
    let changed = async {
        client.batch_execute("CREATE TABLE changing (id int, a text); INSERT INTO changing VALUES (1, 'x')").await?;
        let statement = client.prepare("SELECT * FROM changing").await?;
        let before = values(&client.query_one(&statement, &[]).await?)?;
        client.batch_execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2").await?;
        let stale = client.query_one(&statement, &[]).await.map(|_| ()).map_err(|error| state(&error));
        let after = query(client, "SELECT * FROM changing", &[]).await?;
        client.batch_execute("DROP TABLE changing").await?;
        Ok((before, stale, after))
    };
    report("prepared over a changed table", changed.await);
}

async fn batches(client: &Client) {
    let inserted = async {
        let statement = client.prepare("INSERT INTO orders (customer_id, note) VALUES ($1, $2)").await?;
        let notes: Vec<String> = (0..50).map(|number| format!("batch {number}")).collect();
        let inserts = notes.iter().map(|note| {
            let statement = &statement;
            async move { client.execute(statement, &[&3, note]).await }
        });
        let counts = try_join_all(inserts).await?;
        let found = query(client, "SELECT count(*) FROM orders WHERE note LIKE 'batch%'", &[]).await?;
        Ok((counts.iter().sum::<u64>(), found))
    };
    report("batch in flight", inserted.await);
    let mixed = async {
        let all = [
            "SELECT name FROM customers WHERE id = 1",
            "SELECT nosuch",
            "SELECT email FROM customers WHERE id = 2",
            "SELEC",
            "SELECT 1 / 0",
        ];
        let results =
            join_all(all.map(|sql| async move { query(client, sql, &[]).await.map_err(|error| state(&*error)) }));
        Ok(results.await)
    };
    report("batch with errors", mixed.await);
    let (first, second) = join(
        query(client, "SELECT card FROM customers WHERE id = $1", &[&1]),
        query(client, "SELECT card FROM customers WHERE id = $1", &[&2]),
    )
    .await;
    report("batch of two", first.and_then(|first| Ok((first, second?))));
    let statements = client.batch_execute(
        "UPDATE orders SET note = 'two' WHERE id = 2; SELECT nosuch; UPDATE orders SET note = 'lost' WHERE id = 3",
    );
    refused("batch of statements", statements.await.map_err(Into::into));
    report(
        "batch of statements, undone",
        query(client, "SELECT note FROM orders WHERE id IN (2, 3) ORDER BY id", &[]).await,
    );
}

async fn cursors(client: &mut Client) {
    let portal = async {
        let transaction = client.transaction().await?;
        let portal = transaction.bind("SELECT id, card FROM customers WHERE id < $1 ORDER BY id", &[&4]).await?;
        let mut parts = Vec::new();
        for _ in 0..3 {
            let rows = transaction.query_portal(&portal, 2).await?;
            parts.push(rows.iter().map(values).collect::<Result<Vec<_>, _>>()?);
        }
        drop(portal);
        transaction.commit().await?;
        Ok(parts)
    };
    report("cursor by portal", portal.await);
    let two = async {
        let transaction = client.transaction().await?;
        let first = transaction.bind("SELECT email FROM customers ORDER BY id", &[]).await?;
        let second = transaction.bind("SELECT name FROM customers ORDER BY id DESC", &[]).await?;
        let mut found = Vec::new();
        for portal in [&first, &second, &first, &second] {
            found.push(transaction.query_portal(portal, 1).await?.iter().map(values).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    };
    report("cursor beside another", two.await);
    let declared = async {
        let transaction = client.transaction().await?;
        transaction.execute("DECLARE c SCROLL CURSOR FOR SELECT id, card FROM customers ORDER BY id", &[]).await?;
        let first = query(&transaction, "FETCH 2 FROM c", &[]).await?;
        let back = query(&transaction, "FETCH BACKWARD 1 FROM c", &[]).await?;
        transaction.batch_execute("CLOSE c").await?;
        Ok((first, back))
    };
    report("cursor in SQL", declared.await);
    let early = async {
        let mut rows =
            Box::pin(client.query_raw("SELECT i FROM generate_series(1, 10000) AS i", Vec::<i32>::new()).await?);
        let first = rows.next().await.transpose()?.map(|row| row.get::<_, i32>(0));
        drop(rows);
        Ok((first, query(client, "SELECT 1", &[]).await?))
    };
    report("cursor left early", early.await);
}

async fn copies(client: &Client) {
    let text = async {
        let mut sink = pin!(client.copy_in("COPY orders (customer_id, note) FROM STDIN").await?);
        for number in 0..20 {
            sink.send(Bytes::from(format!("2\tcopied {number}\n"))).await?;
        }
        Ok(sink.as_mut().finish().await?)
    };
    report("copy in", text.await);
    let binary = async {
        let sink =
            client.copy_in("COPY public.customers (name, email, card, birth) FROM STDIN (FORMAT binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::VARCHAR, Type::TEXT, Type::DATE]));
        let born = NaiveDate::from_ymd_opt(1990, 1, 1);
        writer.as_mut().write(&[&"Eve", &"e***@example.com", &"************5678", &born]).await?;
        writer.as_mut().write(&[&"Fay", &"f***@example.com", &None::<String>, &None::<NaiveDate>]).await?;
        Ok(writer.as_mut().finish().await?)
    };
    report("copy in as binary", binary.await);
    let unknown = async {
        let mut sink = pin!(client.copy_in("COPY orders (customer_id) FROM STDIN").await?);
        sink.send(Bytes::from_static(b"99\n")).await?;
        Ok(sink.as_mut().finish().await?)
    };
    refused("copy of an unknown customer", unknown.await);
    let left = async {
        let mut sink = Box::pin(client.copy_in("COPY orders (customer_id) FROM STDIN").await?);
        sink.send(Bytes::from_static(b"1\n")).await?;
        drop(sink); // Ends with CopyFail.
        query(client, "SELECT count(*) FROM orders", &[]).await
    };
    report("copy left", left.await);
    let out = async {
        let chunks = client
            .copy_out("COPY (SELECT id, email, card FROM customers ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
            .await?;
        Ok(String::from_utf8(chunks.try_collect::<Vec<_>>().await?.concat())?)
    };
    report("copy out", out.await);
    let table = async {
        let chunks = client.copy_out("COPY customers (id, birth, credit) TO STDOUT").await?;
        let mut lines =
            chunks.map_ok(|line| String::from_utf8_lossy(&line).into_owned()).try_collect::<Vec<_>>().await?;
        lines.sort();
        Ok(lines)
    };
    report("copy a table out", table.await);
    let binary_out = async {
        let chunks = client
            .copy_out("COPY (SELECT id, email, credit FROM customers ORDER BY id) TO STDOUT (FORMAT binary)")
            .await?;
        let rows = BinaryCopyOutStream::new(chunks, &[Type::INT4, Type::VARCHAR, Type::NUMERIC]);
        let rows = rows.map_ok(|row| (row.get::<i32>(0), row.get::<String>(1), row.get::<Decimal>(2)));
        Ok(rows.try_collect::<Vec<_>>().await?)
    };
    report("copy out as binary", binary_out.await);
    let hidden = async { Ok(client.copy_out("COPY customers (ssn) TO STDOUT").await?.try_collect::<Vec<_>>().await?) };
    refused("copy of a hidden column", hidden.await);
}

async fn failures(client: &Client) {
    let cast = ("cast", "SELECT email::int FROM customers");
    for (name, sql) in FAILURES.into_iter().chain([cast]) {
        refused(&format!("error {name}"), execute(client, sql, &[]).await);
    }
    let wrong = client.query("SELECT name FROM customers WHERE id = $1", &[&"1"]).await;
    report("error of a parameter's type", Ok(wrong.map(|rows| rows.len()).map_err(|error| error.to_string())));
    let fields = async {
        let failed = client.execute("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)", &[]).await;
        let error = failed.err().ok_or("no error")?;
        let about = error.as_db_error().ok_or("no answer of the server's")?;
        let fields = [
            about.constraint(),
            about.table(),
            about.schema(),
            about.detail(),
            Some(about.severity()),
            Some(about.message()),
        ];
        Ok(fields.map(|field| field.map(str::to_owned)))
    };
    report("error fields", fields.await);
    let cancelled = async {
        let token = client.cancel_token();
        let cancel = async {
            // Until it runs, there is nothing to cancel: again and again.
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = token.cancel_query(NoTls).await;
            }
        };
        tokio::select! {
            ended = query(client, "SELECT pg_sleep(60)", &[]) => ended,
            () = cancel => Ok(Vec::new()),
        }
    };
    refused("error cancel", cancelled.await);
}

async fn sessions(client: &Client, mut messages: UnboundedReceiver<AsyncMessage>) {
    let notified = async {
        client.batch_execute("LISTEN news").await?;
        execute(client, "SELECT pg_notify('news', $1)", &[&"hello"]).await?;
        while let Some(message) = messages.recv().await {
            if let AsyncMessage::Notification(heard) = message {
                client.batch_execute("UNLISTEN news").await?;
                return Ok((heard.channel().to_owned(), heard.payload().to_owned()));
            }
        }
        Err("nothing was heard".into())
    };
    report("session notifications", notified.await);
    let noticed = async {
        client.batch_execute("DROP TABLE IF EXISTS nosuch").await?;
        while let Some(message) = messages.recv().await {
            if let AsyncMessage::Notice(notice) = message {
                return Ok((notice.code().code().to_owned(), notice.message().to_owned()));
            }
        }
        Err("nothing was heard".into())
    };
    report("session notice", noticed.await);
    let temporary = async {
        client.batch_execute("CREATE TEMP TABLE picked AS SELECT id, card FROM customers").await?;
        query(client, "SELECT * FROM picked ORDER BY id", &[]).await
    };
    report("session temporary table", temporary.await);
    let settings = async {
        execute(client, "SELECT set_config('app.tenant', $1, false)", &[&"7"]).await?;
        query(client, "SELECT current_setting('app.tenant')", &[]).await
    };
    report("session settings", settings.await);
    report(
        "session user",
        query(client, "SELECT current_user, current_database(), current_schemas(false)::text[]", &[]).await,
    );
}

async fn pools() {
    for (name, recycling_method) in [
        ("fast", RecyclingMethod::Fast),
        ("verified", RecyclingMethod::Verified),
        ("clean", RecyclingMethod::Clean),
        ("custom", RecyclingMethod::Custom("DISCARD ALL".into())),
    ] {
        let used = async {
            let manager = Manager::from_config(config(), NoTls, ManagerConfig { recycling_method });
            let pool = Pool::builder(manager).max_size(1).build()?;
            let mut found = Vec::new();
            for _ in 0..2 {
                let client = pool.get().await?;
                let statement = client.prepare_cached("SELECT email FROM customers WHERE id = $1").await;
                let email = match statement {
                    Ok(statement) => {
                        client.query_one(&statement, &[&1]).await.and_then(|row| row.try_get::<_, String>(0))
                    }
                    Err(error) => Err(error),
                };
                let setting = client.query_one("SELECT current_setting('app.tenant', true)", &[]).await?;
                found.push((email.map_err(|error| state(&error)), setting.try_get::<_, Option<String>>(0)?));
                client
                    .batch_execute(
                        "SET app.tenant = '8'; CREATE TEMP TABLE IF NOT EXISTS scratch (id int); LISTEN news",
                    )
                    .await?;
            }
            Ok(found)
        };
        report(&format!("pool {name}"), used.await);
    }
    let several = async {
        let manager = Manager::new(config(), NoTls);
        let pool = Pool::builder(manager).max_size(2).build()?;
        let twice = (0..6).map(|number| {
            let pool = pool.clone();
            async move {
                pool.get()
                    .await
                    .ok()?
                    .query_one("SELECT $1::int * 2", &[&number])
                    .await
                    .ok()
                    .map(|row| row.get::<_, i32>(0))
            }
        });
        Ok(join_all(twice).await)
    };
    report("pool of two", several.await);
}
