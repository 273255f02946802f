"""psycopg 3: typed results, transactions as blocks, server-side cursors, pipeline, COPY, a pool."""

import datetime
import decimal
import uuid

import psycopg
import psycopg_pool
from psycopg import sql
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from steps import expect, report, step, versions

versions(psycopg=psycopg.__version__, psycopg_pool=psycopg_pool.__version__)

conn = psycopg.connect(application_name="psycopg-test")


def one(query, *parameters, **how):
    return conn.execute(query, parameters or None, **how).fetchone()


def every(query, *parameters, **how):
    return conn.execute(query, parameters or None, **how).fetchall()


def affected(query, *parameters):
    return conn.execute(query, parameters or None).rowcount


step("connect encoding", lambda: conn.info.encoding)
step("connect parameters", lambda: [conn.info.parameter_status(name) for name in ("standard_conforming_strings", "DateStyle", "TimeZone", "integer_datetimes")])
step("connect user", lambda: one("SELECT current_user, session_user, current_database(), current_schema()"))
step("connect options", lambda: psycopg.connect(options="-c statement_timeout=30s -c search_path=public").execute("SHOW statement_timeout").fetchone())

step("introspect enum", lambda: EnumInfo.fetch(conn, "category").labels)
step("introspect type", lambda: [TypeInfo.fetch(conn, name).name for name in ("numeric", "category")])
step("introspect composite", lambda: CompositeInfo.fetch(conn, "customers").field_names)
step("introspect no type", lambda: TypeInfo.fetch(conn, "nosuch"))
step("introspect columns", lambda: [(c.name, c.type_display, c.null_ok) for c in conn.execute("SELECT * FROM customers").description])
step("introspect view columns", lambda: [(c.name, c.type_code) for c in conn.execute("SELECT * FROM customer_orders").description])
conn.commit()

step("read all", lambda: every("SELECT * FROM customers ORDER BY id"))
step("read all binary", lambda: every("SELECT * FROM customers ORDER BY id", binary=True))
step("read products", lambda: every("SELECT * FROM products ORDER BY id"))
step("read products binary", lambda: every("SELECT * FROM products ORDER BY id", binary=True))
step("read view", lambda: every("SELECT * FROM customer_orders ORDER BY id"))
step("read by key", lambda: one("SELECT name, email FROM customers WHERE id = %s", 1))
step("read by mask", lambda: every("SELECT id FROM customers WHERE email = %s", "m***@example.com"))
step("read any", lambda: every("SELECT name FROM customers WHERE id = ANY(%s) ORDER BY id", [1, 2]))
step("read json", lambda: every("SELECT to_jsonb(c) FROM customers c ORDER BY id"))
step("read whole row", lambda: every("SELECT c::text FROM customers c ORDER BY id"))
step("read whole row type", lambda: every("SELECT pg_typeof(c)::text, pg_typeof(p)::text FROM customers c, products p LIMIT 1"))
step("read join", lambda: every("SELECT c.email, o.status, order_total(o.id) FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY o.id"))
step("read group", lambda: every("SELECT birth, sum(credit), max(card) FROM customers GROUP BY birth ORDER BY birth"))
step("read window", lambda: every("SELECT id, lag(email) OVER (ORDER BY id) FROM customers ORDER BY id"))
step("read dictionaries", lambda: conn.cursor(row_factory=dict_row).execute("SELECT id, email FROM customers ORDER BY id").fetchall())
step("read tuples", lambda: conn.cursor(row_factory=namedtuple_row).execute("SELECT id, card FROM customers ORDER BY id").fetchone().card)
step("read composed", lambda: conn.execute(sql.SQL("SELECT {} FROM {} ORDER BY 1").format(sql.Identifier("email"), sql.Identifier("public", "customers"))).fetchall())
conn.commit()

for value in (1, 2**40, 10**20, 1.5, decimal.Decimal("1.10"), "t", b"\x00\x01", True, None, datetime.date(2024, 1, 2),
              datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.timedelta(1), [1, 2], ["a", None], Jsonb({"a": 1}), uuid.UUID(int=7),
              datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), datetime.time(1, 2), Range(1, 5), [[1], [2]]):
    step(f"types text {value!r}", lambda: one("SELECT %s", value))
    step(f"types binary {value!r}", lambda: one("SELECT %b", value, binary=True))
conn.commit()

step("write insert", lambda: one("INSERT INTO customers (name, email, card, birth, credit) VALUES (%s, %s, %s, %s, %s) RETURNING *",
                                 "Eve", "e***@example.com", "************1111", datetime.date(1990, 1, 1), decimal.Decimal(2000)))
step("write product", lambda: one("INSERT INTO products (sku, title, category, price, tags, attributes, uid) VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING *",
                                  "S-1", "Saw", "tool", decimal.Decimal("20.10"), ["a", "b c"], Jsonb({"n": [1, None]}), uuid.UUID(int=9)))
step("write update", lambda: one("UPDATE customers SET name = %s WHERE id = %s RETURNING name, email", "Ada B", 1))
step("write own mask", lambda: one("UPDATE customers SET email = %s, card = %s, birth = %s, credit = %s WHERE id = 1 RETURNING *",
                                   "m***@example.com", "**********0001", datetime.date(1937, 1, 1), decimal.Decimal(918000)))
step("write optimistic", lambda: affected("UPDATE customers SET active = false WHERE id = %s AND email = %s", 2, "m***@example.org"))
step("write upsert", lambda: one("INSERT INTO products (sku, title, price) VALUES ('S-1', 'Saw 2', 21) ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title, price"))
step("write delete", lambda: affected("DELETE FROM customers WHERE id = %s", 4))
step("write many", lambda: conn.cursor().executemany("INSERT INTO orders (customer_id, note) VALUES (%s, %s)", [(1, "x"), (2, "y"), (3, None)]))


def returning():
    with conn.cursor() as cur:
        cur.executemany("INSERT INTO order_items VALUES (%s, %s, %s, %s) RETURNING line", [(4, n, 1, n) for n in (1, 2)], returning=True)
        found = [cur.fetchone()]
        while cur.nextset():
            found.append(cur.fetchone())
        return found


step("write many returning", returning)
conn.commit()


def nested():
    with conn.transaction():
        conn.execute("UPDATE orders SET note = 'outer' WHERE id = 1")
        with conn.transaction(force_rollback=True):
            conn.execute("UPDATE orders SET note = 'inner' WHERE id = 1")
        for query in ("INSERT INTO orders (customer_id) VALUES (77)", "SELECT nosuch FROM customers", "SELECT 1/0"):
            try:
                with conn.transaction("named"):
                    conn.execute(query)
            except psycopg.Error as error:
                report("transaction savepoint error", error.sqlstate)
        return one("SELECT note FROM orders WHERE id = 1")


def rolled_back():
    conn.execute("DELETE FROM order_items")
    conn.rollback()
    return one("SELECT count(*) FROM order_items")


def aborted():
    expect("transaction error", lambda: conn.execute("SELECT 1/0"))
    expect("transaction aborted", lambda: conn.execute("SELECT 1"))
    state = conn.info.transaction_status.name
    conn.rollback()
    return state, conn.info.transaction_status.name


def isolated():
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    with conn.transaction():
        level = one("SHOW transaction_isolation")
        expect("transaction read only", lambda: conn.execute("DELETE FROM orders"))
        raise psycopg.Rollback
    return level


step("transaction nested", nested)
conn.commit()
step("transaction rollback", rolled_back)
conn.rollback()
step("transaction status", aborted)
step("transaction isolation", isolated)
conn.rollback()
conn.isolation_level = conn.read_only = None

step("prepared by threshold", lambda: [one("SELECT email FROM customers WHERE id = %s", 1 + n % 3) for n in range(9)])
step("prepared at once", lambda: one("SELECT card FROM customers WHERE id = %s", 2, prepare=True))
step("prepared binary", lambda: [one("SELECT birth, credit FROM customers WHERE id = %s", 1, prepare=True, binary=True) for _ in range(3)])
step("prepared names", lambda: one("SELECT count(*) > 0 FROM pg_prepared_statements"))
step("prepared in SQL", lambda: [conn.execute(query).rowcount for query in ("PREPARE p (int) AS SELECT email FROM customers WHERE id >= $1", "EXECUTE p (1)", "DEALLOCATE p")])
conn.commit()


def pipelined():
    with conn.pipeline() as pipeline:
        first = conn.execute("SELECT email FROM customers WHERE id = 1")
        second = conn.execute("UPDATE orders SET note = %s WHERE id = 2 RETURNING id", ("pipe",))
        pipeline.sync()
        third = conn.execute("SELECT count(*) FROM customers")
        return first.fetchone(), second.fetchone(), third.fetchone()


def pipeline_error():
    try:
        with conn.pipeline():
            conn.execute("SELECT 1")
            conn.execute("INSERT INTO products (sku, title, price) VALUES ('H-1', 'twice', 1)")
            conn.execute("SELECT 2")
    except psycopg.Error as error:
        conn.rollback()
        return error.sqlstate


step("batch pipeline", pipelined)
conn.commit()
step("batch pipeline error", pipeline_error)
step("batch statements", lambda: [conn.execute("SELECT 1; SELECT 2").fetchall()])
conn.commit()


def cursor(name, **how):
    with conn.cursor(name, **how) as cur:
        cur.itersize = 2
        cur.execute("SELECT id, email FROM customers ORDER BY id")
        found = [cur.fetchone()]
        if how.get("scrollable"):
            cur.scroll(0, mode="absolute")
        return found + list(cur)


step("cursor server side", lambda: cursor("c"))
step("cursor scrollable", lambda: cursor("c", scrollable=True))
step("cursor with hold", lambda: cursor("c", withhold=True))
step("cursor stream", lambda: list(conn.cursor().stream("SELECT email FROM customers ORDER BY id")))
conn.commit()


def copy_in(query, rows, types=None):
    with conn.cursor() as cur:
        with cur.copy(query) as copy:
            if types:
                copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        return cur.rowcount


def copy_out(query):
    with conn.cursor().copy(query) as copy:
        return b"".join(map(bytes, copy))


def copy_rows(query, types):
    with conn.cursor().copy(query) as copy:
        copy.set_types(types)
        return list(copy.rows())


step("copy in", lambda: copy_in("COPY customers (id, name, email, card) FROM STDIN", [(20 + n, f"C{n}", f"{'kl'[n]}***@example.com", "************2222") for n in (0, 1)]))
step("copy in binary", lambda: copy_in("COPY orders (id, customer_id, note) FROM STDIN (FORMAT binary)", [(30, 20, "b"), (31, 21, None)], ["int4", "int4", "text"]))
step("copy out", lambda: copy_out("COPY customers TO STDOUT"))
step("copy out columns", lambda: copy_out("COPY customers (id, email) TO STDOUT (FORMAT csv, HEADER)"))
step("copy out query", lambda: copy_out("COPY (SELECT id, card FROM customers ORDER BY id) TO STDOUT"))
step("copy out binary", lambda: copy_rows("COPY (SELECT id, email, birth FROM customers ORDER BY id) TO STDOUT (FORMAT binary)", ["int4", "varchar", "date"]))
conn.commit()
expect("copy in error", lambda: copy_in("COPY orders (id, customer_id) FROM STDIN", [(1, 1)]))
conn.rollback()

auto = psycopg.connect(autocommit=True)
for name, query in (
    ("unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)"),
    ("foreign key", "INSERT INTO orders (customer_id) VALUES (99)"),
    ("not null", "INSERT INTO products (sku, title, price) VALUES ('Z', NULL, 1)"),
    ("check", "UPDATE products SET price = -1 WHERE id = 1"),
    ("syntax", "SELEC 1"),
    ("no table", "SELECT * FROM nosuch"),
    ("no column", "SELECT nosuch FROM customers"),
    ("hidden column", "SELECT ssn FROM customers"),
    ("no function", "SELECT nosuch(1)"),
    ("division", "SELECT 1/0"),
    ("cast", "SELECT 'x'::int"),
    ("cast of a mask", "SELECT email::int FROM customers"),
    ("enum", "INSERT INTO products (sku, title, price, category) VALUES ('Z', 'x', 1, 'none')"),
    ("too long", "UPDATE products SET sku = repeat('x', 30) WHERE id = 1"),
    ("ambiguous", "SELECT id FROM customers JOIN orders ON true"),
    ("parameter count", "EXECUTE nosuch (1)"),
):
    expect(f"error {name}", lambda: auto.execute(query))


def diagnostics():
    try:
        auto.execute("INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)")
    except psycopg.errors.UniqueViolation as error:
        return error.diag.constraint_name, error.diag.table_name, error.diag.schema_name


def timed_out():
    with auto.transaction():
        auto.execute("SET LOCAL statement_timeout = 50")
        auto.execute("SELECT pg_sleep(5)")


def cancelled():
    import threading
    timer = threading.Timer(0.3, auto.cancel_safe)
    timer.start()
    auto.execute("SELECT pg_sleep(20)")


step("error diagnostics", diagnostics)
expect("error timeout", timed_out)
expect("error cancel", cancelled)
step("error over", lambda: auto.execute("SELECT 1").fetchone())


def notified():
    auto.execute("LISTEN news")
    auto.execute("NOTIFY news, 'hello'")
    return [(n.channel, n.payload) for n in auto.notifies(timeout=5, stop_after=1)]


step("session notify", notified)
step("session settings", lambda: [auto.execute(query).rowcount for query in ("SET TimeZone = 'Europe/Berlin'", "SET app.tenant = '7'", "RESET ALL")])
step("session temporary", lambda: [auto.execute(query).rowcount for query in (
    "CREATE TEMP TABLE seen AS SELECT id, email FROM customers WHERE id <= 3", "INSERT INTO seen VALUES (9, 'x')", "SELECT * FROM seen", "DROP TABLE seen")])

with psycopg_pool.ConnectionPool(min_size=1, max_size=2, open=True, check=psycopg_pool.ConnectionPool.check_connection,
                                 reset=lambda c: (setattr(c, "autocommit", True), c.execute("DISCARD ALL"), setattr(c, "autocommit", False)) and None) as pool:
    def pooled():
        with pool.connection() as c:
            c.execute("SET search_path = pg_catalog")
            c.execute("SELECT 1", prepare=True)
        with pool.connection() as c:
            return c.execute("SHOW search_path").fetchone(), c.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()

    step("pool reset", pooled)
    def again():
        with pool.connection() as c:
            return c.execute("SELECT email FROM customers WHERE id = 1").fetchone()

    step("pool again", again)
