import psycopg
from psycopg.rows import dict_row
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo
from psycopg.types.hstore import register_hstore
from psycopg.types.json import Jsonb
import datetime, decimal, uuid

with psycopg.connect("application_name=psycopg-test") as conn:
    print(conn.info.server_version, conn.info.encoding)
    cur = conn.execute("SELECT * FROM customers ORDER BY id")
    cur.fetchall()
    for info in (TypeInfo.fetch(conn, "hstore"), EnumInfo.fetch(conn, "mood"), TypeInfo.fetch(conn, "email")):
        pass
    register_composite(CompositeInfo.fetch(conn, "address"), conn)
    conn.execute("SELECT home FROM customers ORDER BY id").fetchall()
    conn.execute("SELECT name FROM customers WHERE id = %s", (1,)).fetchone()
    conn.execute("SELECT name FROM customers WHERE id = ANY(%s)", ([1, 2],)).fetchall()
    for _ in range(8):  # psycopg prepares after five
        conn.execute("SELECT name, balance FROM customers WHERE id = %s AND name <> %s", (1, "x")).fetchall()
    conn.execute("SELECT * FROM customers ORDER BY id", binary=True).fetchall()
    for value in (1, 2**40, 10**20, 1.5, decimal.Decimal("1.10"), "t", b"\x00\x01", True, None, datetime.date(2024, 1, 2),
                  datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.timedelta(1), [1, 2], ["a", None], Jsonb({"a": 1}),
                  uuid.UUID(int=7), datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), datetime.time(1, 2)):
        conn.execute("SELECT %s", (value,)).fetchone()
        if value is not None:
            conn.execute("SELECT %b", (value,), binary=True).fetchone()
    with conn.cursor(row_factory=dict_row) as cur:
        cur.executemany("INSERT INTO orders (customer_id, item, amount) VALUES (%s, %s, %s) RETURNING id",
                        [(1, "nut", 1), (2, "oat", 2), (3, "pie", 3)], returning=True)
        cur.fetchall()
    with conn.transaction():
        conn.execute("UPDATE orders SET amount = amount * 2 WHERE item = %s", ("nut",))
        try:
            with conn.transaction():
                conn.execute("INSERT INTO orders (customer_id, item) VALUES (%s, %s)", (77, "none"))
        except psycopg.errors.ForeignKeyViolation:
            pass
        try:
            with conn.transaction():
                conn.execute("SELECT %s::int", ("x",))
        except psycopg.errors.InvalidTextRepresentation:
            pass
    with conn.cursor("server_side") as cur:
        cur.itersize = 2
        cur.execute("SELECT * FROM orders ORDER BY id")
        for row in cur:
            pass
    with conn.cursor("scrolling", scrollable=True, withhold=True) as cur:
        cur.execute("SELECT id FROM customers ORDER BY id")
        cur.scroll(1)
        cur.fetchone()
    with conn.cursor() as cur:
        with cur.copy("COPY base_things (id, label) FROM STDIN") as copy:
            for i in range(10, 15):
                copy.write_row((i, f"copied {i}"))
        with cur.copy("COPY base_things TO STDOUT") as copy:
            list(copy.rows())
        with cur.copy("COPY (SELECT id, label FROM base_things ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            b"".join(bytes(b) for b in copy)
        with cur.copy("COPY base_things (id, label) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((20, "binary"))
    with conn.pipeline() as p:
        conn.execute("SELECT 1")
        conn.execute("SELECT %s::int8", (5,))
        conn.execute("INSERT INTO base_things VALUES (%s, %s)", (30, "pipeline"))
        p.sync()
        conn.execute("SELECT count(*) FROM base_things")
    conn.rollback()
    conn.execute("DELETE FROM orders WHERE item = ANY(%s)", (["nut", "oat", "pie"],))
    conn.commit()

with psycopg.connect(autocommit=True) as conn:
    conn.execute("SET default_transaction_read_only = on")
    try:
        conn.execute("DELETE FROM orders")
    except psycopg.errors.ReadOnlySqlTransaction:
        pass
    conn.execute("SET default_transaction_read_only = off")
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with conn.transaction():
        conn.execute("SELECT count(*) FROM orders").fetchone()
    list(conn.cursor().stream("SELECT * FROM generate_series(1, 5)"))
    conn.execute("LISTEN stuff")
    conn.execute("NOTIFY stuff, 'x'")
    next(conn.notifies(timeout=2, stop_after=1), None)
    conn.execute("SELECT pg_is_in_recovery(), current_setting('server_version_num'), pg_backend_pid() > 0").fetchone()
