"""psycopg2: client-side parameters, named cursors, COPY by files, execute_values, two pools."""

import datetime
import decimal
import io

import psycopg2
import psycopg2.extensions as extensions
import psycopg2.extras as extras
import psycopg2.pool
from psycopg2 import sql

from steps import expect, report, step, versions

versions(psycopg2=psycopg2.__version__.split(" ")[0])
conn = psycopg2.connect("")


def every(query, parameters=None, **how):
    with conn.cursor(**how) as cur:
        cur.execute(query, parameters)
        return cur.fetchall() if cur.description else cur.rowcount


step("connect encoding", lambda: conn.encoding)
step("connect parameters", lambda: [conn.get_parameter_status(name) for name in ("standard_conforming_strings", "DateStyle", "integer_datetimes")])
step("connect user", lambda: every("SELECT current_user, current_database()"))
step("connect encoding set", lambda: (conn.set_client_encoding("UTF8"), conn.encoding))
step("connect dsn", lambda: psycopg2.connect("application_name=psycopg2 options='-c statement_timeout=30s'").cursor().execute("SELECT 1"))

step("introspect columns", lambda: (lambda cur: (cur.execute("SELECT * FROM customers"), [(c.name, c.type_code, c.internal_size) for c in cur.description])[1])(conn.cursor()))
step("introspect table column", lambda: (lambda cur: (cur.execute("SELECT email, card FROM customers"), [c.table_column for c in cur.description])[1])(conn.cursor()))
step("introspect json", lambda: extras.register_default_jsonb(conn) is not None)
step("introspect composite", lambda: extras.register_composite("order_items", conn).attnames)
step("introspect hstore", lambda: extras.HstoreAdapter.get_oids(conn))
conn.commit()

step("read all", lambda: every("SELECT * FROM customers ORDER BY id"))
step("read products", lambda: every("SELECT * FROM products ORDER BY id"))
step("read view", lambda: every("SELECT * FROM customer_orders ORDER BY id"))
step("read by key", lambda: every("SELECT name, email FROM customers WHERE id = %s", (1,)))
step("read by names", lambda: every("SELECT name FROM customers WHERE id = %(id)s", {"id": 2}))
step("read in", lambda: every("SELECT email FROM customers WHERE id IN %s ORDER BY id", ((1, 3),)))
step("read any", lambda: every("SELECT email FROM customers WHERE id = ANY(%s) ORDER BY id", ([1, 2],)))
step("read like", lambda: every("SELECT id FROM customers WHERE email LIKE %s ORDER BY id", ("m***@%",)))
step("read dictionaries", lambda: [dict(row) for row in every("SELECT id, card FROM customers ORDER BY id", cursor_factory=extras.RealDictCursor)])
step("read tuples", lambda: every("SELECT id, card FROM customers ORDER BY id", cursor_factory=extras.NamedTupleCursor)[0].card)
step("read composite", lambda: every("SELECT i FROM order_items i ORDER BY order_id, line"))
step("read composed", lambda: every(sql.SQL("SELECT {} FROM {} ORDER BY 1").format(sql.Identifier("email"), sql.Identifier("public", "customers"))))
step("read mogrified", lambda: conn.cursor().mogrify("SELECT %s, %s", ("it's", b"\x01")))
conn.commit()

for value in (1, 2**40, 1.5, decimal.Decimal("1.10"), "t", "it's \\ ok", b"\x00\x01", True, None, datetime.date(2024, 1, 2),
              datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), datetime.timedelta(1), [1, 2], extras.Json({"a": "b"}),
              extras.NumericRange(1, 5)):
    step(f"types {str(value)}", lambda: every("SELECT %s", (value,)))
conn.commit()

step("write insert", lambda: every("INSERT INTO customers (name, email, card, birth, credit) VALUES (%s, %s, %s, %s, %s) RETURNING *",
                                   ("Eve", "e***@example.com", "************1111", datetime.date(1990, 1, 1), decimal.Decimal(2000))))
step("write values", lambda: (lambda cur: extras.execute_values(cur, "INSERT INTO products (sku, title, price, tags, attributes) VALUES %s RETURNING id, sku", [
    ("S-1", "Saw", 20, ["a"], extras.Json({"n": 1})), ("S-2", "Axe", 30, [], extras.Json([]))], template="(%s, %s, %s, %s::text[], %s)", fetch=True))(conn.cursor()))
step("write update", lambda: every("UPDATE customers SET name = %s WHERE id = %s RETURNING email", ("Ada B", 1)))
step("write own mask", lambda: every("UPDATE customers SET email = %s, card = %s WHERE id = 1 RETURNING *", ("m***@example.com", "**********0001")))
step("write upsert", lambda: every("INSERT INTO products (sku, title, price) VALUES ('S-1', 'Saw 2', 21) ON CONFLICT (sku) DO NOTHING"))
step("write delete", lambda: every("DELETE FROM customers WHERE id = 4"))
step("write many", lambda: conn.cursor().executemany("INSERT INTO orders (customer_id, note) VALUES (%s, %s)", [(1, "x"), (2, None)]))
step("write batch", lambda: extras.execute_batch(conn.cursor(), "UPDATE orders SET note = %s WHERE id = %s", [("b1", 1), ("b2", 2), ("b3", 3)], page_size=2))
conn.commit()


def with_block():
    with conn, conn.cursor() as cur:
        cur.execute("UPDATE orders SET note = 'block' WHERE id = 1")
    try:
        with conn, conn.cursor() as cur:
            cur.execute("UPDATE orders SET note = 'gone' WHERE id = 1")
            cur.execute("SELECT 1/0")
    except psycopg2.Error as error:
        report("transaction block error", error.pgcode)
    return every("SELECT note FROM orders WHERE id = 1")


def savepoints():
    every("SAVEPOINT a")
    expect("transaction savepoint error", lambda: every("INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)"))
    every("ROLLBACK TO a")
    every("UPDATE orders SET note = 'kept' WHERE id = 2")
    every("RELEASE a")
    return every("SELECT note FROM orders WHERE id = 2")


def isolated():
    conn.set_session(isolation_level="REPEATABLE READ", readonly=True, deferrable=True)
    level = every("SHOW transaction_isolation")
    expect("transaction read only", lambda: every("DELETE FROM order_items"))
    conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly=False, deferrable=False)
    return level


def two_phases():
    conn.tpc_begin(conn.xid(1, "global", "branch"))
    every("UPDATE orders SET note = 'two' WHERE id = 3")
    try:
        conn.tpc_prepare()
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        conn.tpc_rollback()
    return "prepared"


step("transaction block", with_block)
conn.commit()
step("transaction savepoint", savepoints)
conn.commit()
step("transaction rollback", lambda: (every("DELETE FROM order_items"), conn.rollback(), every("SELECT count(*) FROM order_items")))
conn.rollback()
step("transaction isolation", isolated)
conn.rollback()
step("transaction status", lambda: (conn.status, conn.info.transaction_status))
step("transaction two phases", two_phases)
conn.commit()

step("prepared in SQL", lambda: (every("PREPARE p (int) AS SELECT email FROM customers WHERE id = $1"), every("EXECUTE p (%s)", (1,)), every("DEALLOCATE p")))
step("batch statements", lambda: every("SELECT 1; SELECT email FROM customers WHERE id = 1"))
conn.commit()


def cursor(name, **how):
    with conn.cursor(name, **how) as cur:
        cur.itersize = 2
        cur.execute("SELECT id, email FROM customers ORDER BY id")
        found = [cur.fetchone()] + cur.fetchmany(1)
        if how.get("scrollable"):
            cur.scroll(0, mode="absolute")
        return found + list(cur)


step("cursor named", lambda: cursor("c"))
step("cursor scrollable", lambda: cursor("c", scrollable=True))
step("cursor with hold", lambda: cursor("c", withhold=True))
conn.commit()


def copied(query):
    out = io.StringIO()
    conn.cursor().copy_expert(query, out)
    return out.getvalue()


def copied_from():
    cur = conn.cursor()
    cur.copy_from(io.StringIO("20\tC\tk***@example.com\n21\tD\tl***@example.com\n"), "customers", columns=("id", "name", "email"))
    return cur.rowcount


def copied_to():
    out = io.StringIO()
    conn.cursor().copy_to(out, "customers", columns=("id", "email"), sep="|")
    return sorted(out.getvalue().splitlines())


step("copy from", copied_from)
step("copy to", copied_to)
step("copy in", lambda: conn.cursor().copy_expert("COPY orders (id, customer_id, note) FROM STDIN CSV", io.StringIO("30,20,b\n31,21,\n")))
step("copy out", lambda: copied("COPY (SELECT * FROM customers ORDER BY id) TO STDOUT CSV HEADER"))
conn.commit()
expect("copy error", lambda: conn.cursor().copy_expert("COPY orders (id, customer_id) FROM STDIN", io.StringIO("1\tx\n")))
conn.rollback()

conn.autocommit = True
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
    expect(f"error {name}", lambda: every(query))


def diagnostics():
    try:
        every("INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)")
    except psycopg2.errors.UniqueViolation as error:
        return error.diag.constraint_name, error.diag.table_name


def cancelled():
    import threading
    threading.Timer(0.3, conn.cancel).start()
    every("SELECT pg_sleep(20)")


def notified():
    import select
    every("LISTEN news")
    every("NOTIFY news, 'hello'")
    select.select([conn], [], [], 5)
    conn.poll()
    return [(n.channel, n.payload) for n in conn.notifies]


step("error diagnostics", diagnostics)
expect("error cancel", cancelled)
step("session notify", notified)
step("session reset", lambda: (every("SET search_path = pg_catalog"), conn.reset(), every("SHOW search_path")))
pool = psycopg2.pool.ThreadedConnectionPool(1, 2, "")


def pooled():
    first = pool.getconn()
    with first.cursor() as cur:
        cur.execute("SET app.tenant = '7'")
        cur.execute("SELECT email FROM customers WHERE id = 2")
        found = cur.fetchone()
    first.commit()
    first.autocommit = True
    first.cursor().execute("DISCARD ALL")
    first.autocommit = False
    pool.putconn(first)
    again = pool.getconn()
    with again.cursor() as cur:
        cur.execute("SELECT current_setting('app.tenant', true)")
        setting = cur.fetchone()
    pool.putconn(again)
    return found, setting, first is again


step("pool", pooled)
step("pool close", pool.closeall)
