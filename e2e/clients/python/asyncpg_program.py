"""asyncpg: binary protocol, introspection of types by recursive queries, prepared statements, COPY of tables, a pool that resets."""

import asyncio
import datetime
import decimal
import io
import json
import uuid

import asyncpg

from steps import failed, report, state, versions

versions(asyncpg=asyncpg.__version__)


async def step(name, call):
    try:
        report(name, await call)
    except Exception as error:
        failed(name, error)


async def expect(name, call):
    try:
        await call
    except Exception as error:
        return report(name, state(error)) if state(error) else failed(name, error)
    report(name, "FAILED no error")


def rows(records):
    return [dict(record) for record in records]


async def fetched(conn, query, *parameters):
    return rows(await conn.fetch(query, *parameters))


async def main():
    conn = await asyncpg.connect(ssl=False, server_settings={"application_name": "asyncpg-test"})
    settings = conn.get_settings()
    report("connect settings", [settings.client_encoding, settings.standard_conforming_strings, settings.TimeZone])
    await step("connect user", fetched(conn, "SELECT current_user, current_database()"))

    await step("introspect enum", fetched(conn, "SELECT category, tags, attributes FROM products ORDER BY id"))
    await step("introspect composite", fetched(conn, "SELECT i FROM order_items i ORDER BY order_id, line"))
    await step("introspect array of composite", fetched(conn, "SELECT array_agg(i ORDER BY line) AS all FROM order_items i WHERE order_id = 1"))
    await step("introspect array of enum", fetched(conn, "SELECT array_agg(category ORDER BY id) AS all FROM products"))
    await step("introspect codec", conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"))
    await step("introspect codec of enum", conn.set_type_codec("category", encoder=str, decoder=str.upper, schema="public", format="text"))
    await step("introspect reload", conn.reload_schema_state())

    async def described():
        statement = await conn.prepare("SELECT * FROM customers WHERE id = $1 AND email = $2")
        return [(a.name, a.type.name) for a in statement.get_attributes()], [p.name for p in statement.get_parameters()], statement.get_statusmsg()

    await step("introspect statement", described())

    await step("read all", fetched(conn, "SELECT * FROM customers ORDER BY id"))
    await step("read products", fetched(conn, "SELECT * FROM products ORDER BY id"))
    await step("read view", fetched(conn, "SELECT * FROM customer_orders ORDER BY id"))
    await step("read row", conn.fetchrow("SELECT name, email FROM customers WHERE id = $1", 1))
    await step("read value", conn.fetchval("SELECT email FROM customers WHERE id = $1", 2))
    await step("read by mask", fetched(conn, "SELECT id FROM customers WHERE card = $1", "**********0002"))
    await step("read any", fetched(conn, "SELECT card FROM customers WHERE id = ANY($1::int[]) ORDER BY id", [1, 3]))
    await step("read json", conn.fetchval("SELECT to_jsonb(c) FROM customers c WHERE id = 1"))
    await step("read whole row", fetched(conn, "SELECT c::text FROM customers c ORDER BY id"))
    await step("read whole row type", fetched(conn, "SELECT pg_typeof(c)::text AS guarded, pg_typeof(p)::text AS open FROM customers c, products p LIMIT 1"))
    for name, value in (("int8", 2**40), ("numeric", decimal.Decimal("1.10")), ("text", "t"), ("bytea", b"\x00\x01"), ("bool", True), ("date", datetime.date(2024, 1, 2)),
                        ("timestamptz", datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)), ("interval", datetime.timedelta(1)), ("uuid", uuid.UUID(int=7)),
                        ("int4[]", [1, 2]), ("int4range", asyncpg.Range(1, 5)), ("jsonb", {"a": 1}), ("inet", "10.0.0.1"), ("category", "toy")):
        await step(f"types {name}", conn.fetchval(f"SELECT $1::{name}", value))

    await step("write insert", conn.fetchrow("INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING *",
                                             "Eve", "e***@example.com", "************1111", datetime.date(1990, 1, 1), decimal.Decimal(2000)))
    await step("write update", conn.execute("UPDATE customers SET name = $1 WHERE id = $2", "Ada B", 1))
    await step("write own mask", conn.fetchrow("UPDATE customers SET email = $1, card = $2, birth = $3, credit = $4 WHERE id = 1 RETURNING *",
                                               "m***@example.com", "**********0001", datetime.date(1937, 1, 1), decimal.Decimal(918000)))
    await step("write delete", conn.execute("DELETE FROM customers WHERE id = $1", 4))
    await step("write many", conn.executemany("INSERT INTO orders (customer_id, note) VALUES ($1, $2)", [(1, "x"), (2, None), (3, "z")]))
    if hasattr(conn, "fetchmany"):
        await step("write many returning", conn.fetchmany("INSERT INTO products (sku, title, price) VALUES ($1, $2, $3) RETURNING id", [("S-1", "Saw", 20), ("S-2", "Axe", 30)]))

    async def transactions():
        async with conn.transaction():
            await conn.execute("UPDATE orders SET note = 'outer' WHERE id = 1")
            for query in ("INSERT INTO orders (customer_id) VALUES (77)", "SELECT nosuch FROM customers"):
                try:
                    async with conn.transaction():
                        await conn.execute(query)
                except asyncpg.PostgresError as error:
                    report("transaction savepoint error", error.sqlstate)
        try:
            async with conn.transaction():
                await conn.execute("UPDATE orders SET note = 'gone' WHERE id = 1")
                raise KeyError
        except KeyError:
            pass
        return await conn.fetchval("SELECT note FROM orders WHERE id = 1")

    async def isolated():
        async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
            return await conn.fetchval("SHOW transaction_isolation")

    await step("transaction nested", transactions())
    await step("transaction isolation", isolated())

    async def prepared():
        statement = await conn.prepare("SELECT email FROM customers WHERE id = $1")
        found = [await statement.fetchval(n) for n in (1, 2, 3)]
        return found, rows(await statement.fetch(1)), statement.get_query()

    async def explained():
        statement = await conn.prepare("SELECT name FROM products WHERE id = $1".replace("name", "title"))
        return (await statement.explain(1))[0]["Plan"]["Node Type"]

    async def named():
        statement = await conn.prepare("SELECT card FROM customers WHERE id = $1", name="named")
        return await statement.fetchval(1), statement.get_name()

    await step("prepared", prepared())
    await step("prepared named", named())
    await step("prepared explain", explained())
    await step("prepared many", (await conn.prepare("UPDATE orders SET note = $2 WHERE id = $1")).executemany([(1, "a"), (2, "b")]))
    await step("batch script", conn.execute("UPDATE orders SET note = 'c' WHERE id = 3; SELECT email FROM customers; SELECT 1"))

    async def cursor():
        async with conn.transaction():
            found = [record["email"] async for record in conn.cursor("SELECT email FROM customers ORDER BY id", prefetch=2)]
            scrolled = await conn.cursor("SELECT id FROM customers ORDER BY id")
            await scrolled.forward(1)
            return found, rows(await scrolled.fetch(5))

    await step("cursor", cursor())

    async def copied(call):
        out = io.BytesIO()
        return await call(out), out.getvalue()

    await step("copy records in", conn.copy_records_to_table("customers", columns=["id", "name", "email", "card"], records=[
        (20, "C", "k***@example.com", "************2222"), (21, "D", "l***@example.com", None)]))
    await step("copy records in enum", conn.copy_records_to_table("orders", columns=["id", "customer_id", "note"], records=[(30, 20, "b"), (31, 21, None)]))
    await step("copy in", conn.copy_to_table("order_items", source=io.BytesIO(b"30,1,1,2\n30,2,2,1\n"), format="csv"))
    await step("copy out table", copied(lambda out: conn.copy_from_table("products", columns=["id", "sku"], output=out, format="csv", header=True)))
    await step("copy out query", copied(lambda out: conn.copy_from_query("SELECT id, email, card FROM customers WHERE id < $1 ORDER BY id", 30, output=out)))
    await step("copy out binary", copied(lambda out: conn.copy_from_query("SELECT id, birth FROM customers ORDER BY id", output=out, format="binary")))
    await expect("copy in error", conn.copy_to_table("orders", columns=["id", "customer_id"], source=io.BytesIO(b"1\t1\n")))

    for name, query in (
        ("unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)"),
        ("foreign key", "INSERT INTO orders (customer_id) VALUES (99)"),
        ("not null", "INSERT INTO products (sku, title, price) VALUES ('Z', NULL, 1)"),
        ("check", "UPDATE products SET price = -1 WHERE id = 1"),
        ("syntax", "SELEC 1"),
        ("no table", "SELECT * FROM nosuch"),
        ("hidden column", "SELECT ssn FROM customers"),
        ("cast of a mask", "SELECT card::int FROM customers"),
    ):
        await expect(f"error {name}", conn.fetch(query))
        await expect(f"error {name}, simple protocol", conn.execute(query))
    await expect("error timeout", conn.execute("SET statement_timeout = 50; SELECT pg_sleep(5)"))
    await step("error timeout off", conn.execute("SET statement_timeout = 0"))

    async def own_timeout():
        try:
            await conn.execute("SELECT pg_sleep(5)", timeout=0.3)
        except asyncio.TimeoutError:
            return await conn.fetchval("SELECT 1")

    await step("error cancel", own_timeout())

    async def notified():
        heard = asyncio.get_running_loop().create_future()
        await conn.add_listener("news", lambda _, pid, channel, payload: heard.set_result((channel, payload)))
        await conn.execute("NOTIFY news, 'hello'")
        return await asyncio.wait_for(heard, 5)

    async def changed():
        # A cached statement whose table changed is prepared again.
        await conn.execute("CREATE TABLE changing (id int); INSERT INTO changing VALUES (1)")
        first = await conn.fetch("SELECT * FROM changing")
        await conn.execute("ALTER TABLE changing ADD COLUMN more text DEFAULT 'm'")
        second = await conn.fetch("SELECT * FROM changing")
        await conn.execute("DROP TABLE changing")
        return rows(first), rows(second)

    await step("session notify", notified())
    await step("session changed table", changed())
    await step("session reset", conn.reset())
    await conn.close()

    async with asyncpg.create_pool(ssl=False, min_size=1, max_size=2) as pool:
        async def pooled():
            async with pool.acquire() as c:
                await c.execute("SET search_path = pg_catalog; SET app.tenant = '7'")
            async with pool.acquire() as c:
                return await c.fetchval("SHOW search_path"), await c.fetchval("SELECT current_setting('app.tenant', true)")

        async def at_once():
            return await asyncio.gather(*(pool.fetchval("SELECT email FROM customers WHERE id = $1", 1 + n % 3) for n in range(6)))

        await step("pool reset", pooled())
        await step("pool at once", at_once())


asyncio.run(main())
