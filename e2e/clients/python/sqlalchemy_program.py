"""SQLAlchemy: inspector, reflection, automap, Core and ORM over psycopg 3, psycopg2 and asyncpg; no two-phase commits."""

import asyncio
import datetime
import decimal
import logging
import os
import uuid

import asyncpg
import psycopg
import psycopg2
import sqlalchemy
from sqlalchemy import ForeignKey, MetaData, Numeric, String, Table, UniqueConstraint, create_engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, UUID
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from steps import expect, report, step, versions

logging.getLogger("asyncio").setLevel(logging.CRITICAL)
versions(SQLAlchemy=sqlalchemy.__version__, psycopg=psycopg.__version__, psycopg2=psycopg2.__version__.split(" ")[0], asyncpg=asyncpg.__version__)
place = "{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
engine = create_engine(f"postgresql+psycopg://{place}", pool_pre_ping=True)


def rows(result):
    return [tuple(row) for row in result]


def core(statement, parameters=None, **options):
    with engine.connect().execution_options(**options) as c:
        return rows(c.execute(statement, parameters))


step("connect", lambda: core(text("SELECT current_user, current_database()")))
step("connect isolation", lambda: [engine.connect().get_isolation_level(), engine.connect().default_isolation_level])

inspector = inspect(engine)
for name in ("schema_names", "table_names", "view_names", "materialized_view_names", "temp_table_names", "sequence_names", "enums", "domains"):
    step(f"introspect {name}", lambda: sorted(getattr(inspector, f"get_{name}")(), key=str))
for table in ("customers", "products", "orders", "order_items", "customer_orders"):
    for what in ("columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "check_constraints", "table_comment"):
        step(f"introspect {what} of {table}", lambda: getattr(inspector, f"get_{what}")(table))
step("introspect view", lambda: inspector.get_view_definition("customer_orders"))
step("introspect exists", lambda: [inspector.has_table("customers"), inspector.has_table("nosuch"), inspector.has_sequence("orders_id_seq"), inspector.has_schema("public")])
step("introspect multi", lambda: sorted((key[1], [c["name"] for c in value]) for key, value in inspector.get_multi_columns().items()))
metadata = MetaData()
step("introspect reflect", lambda: (metadata.reflect(engine, views=True), sorted(metadata.tables))[1])
step("introspect table", lambda: [(c.name, str(c.type), c.nullable, c.primary_key) for c in Table("customers", MetaData(), autoload_with=engine).columns])

Auto = automap_base()
step("automap", lambda: (Auto.prepare(autoload_with=engine), sorted(Auto.classes.keys()))[1])


def automapped():
    with Session(engine) as s:
        customer = s.get(Auto.classes.customers, 1)
        order = s.scalars(select(Auto.classes.orders).order_by(Auto.classes.orders.id)).first()
        return customer.email, customer.card, customer.birth, customer.credit, order.customers.name, hasattr(customer, "ssn")


step("automap read", automapped)


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(String(100), unique=True)
    card: Mapped[str | None]
    birth: Mapped[datetime.date | None]
    credit: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 2), default=0)
    active: Mapped[bool] = mapped_column(default=True)
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.id", cascade="all, delete-orphan")


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    title: Mapped[str]
    category: Mapped[str] = mapped_column(ENUM("tool", "toy", "book", name="category", create_type=False), default="tool")
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2))
    tags: Mapped[list] = mapped_column(ARRAY(sqlalchemy.Text), default=list)
    attributes: Mapped[dict] = mapped_column(JSONB, default=dict)
    picture: Mapped[bytes | None]
    uid: Mapped[uuid.UUID | None] = mapped_column(UUID)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    status: Mapped[str] = mapped_column(String(10), default="new")
    note: Mapped[str | None]
    customer: Mapped[Customer] = relationship(back_populates="orders")
    items: Mapped[list["Item"]] = relationship(order_by="Item.line", cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "order_items"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int] = mapped_column(default=1)
    product: Mapped[Product] = relationship()


def seen(customer):
    return [customer.id, customer.name, customer.email, customer.card, customer.birth, customer.credit, customer.active]


def saved():
    with Session(engine) as s:
        eve = Customer(name="Eve", email="e***@example.com", card="************1111", birth=datetime.date(1990, 1, 1), credit=2000,
                       orders=[Order(note="first", items=[Item(line=1, product_id=1), Item(line=2, product_id=2, quantity=3)])])
        s.add_all([eve, Product(sku="S-1", title="Saw", price=20, tags=["a"], attributes={"n": [1]}, picture=b"\x00", uid=uuid.UUID(int=5))])
        s.commit()
        return seen(eve), [(item.line, item.product.title) for item in eve.orders[0].items]


def loaded():
    with Session(engine) as s:
        found = s.scalars(select(Customer).options(selectinload(Customer.orders).joinedload(Order.items)).order_by(Customer.id)).all()
        return [(seen(c), [(o.note, len(o.items)) for o in c.orders]) for c in found]


def changed():
    with Session(engine) as s:
        ada = s.get(Customer, 1, with_for_update=True)
        ada.name = "Ada B"
        ada.email = ada.email.upper().lower()
        s.flush()
        s.refresh(ada)
        product = s.scalars(select(Product).where(Product.sku == "S-1")).one()
        product.attributes = {**product.attributes, "m": None}
        s.commit()
        return seen(ada), product.attributes


def merged():
    with Session(engine) as s:
        # A detached copy comes back with every column, masks too.
        copy = Customer(id=2, name="Bob B", email="m***@example.org", card="**********0002", birth=datetime.date(1937, 1, 1), credit=918000, active=False)
        s.merge(copy)
        s.commit()
        return seen(s.get(Customer, 2))


def removed():
    with Session(engine) as s:
        s.delete(s.scalars(select(Customer).where(Customer.name == "Eve")).one())
        s.commit()
        return s.scalar(select(func.count()).select_from(Customer)), s.scalar(select(func.count()).select_from(Item))


step("orm add", saved)
step("orm load", loaded)
step("orm change", changed)
step("orm merge", merged)
step("orm delete", removed)


def queried(statement):
    with Session(engine) as s:
        return rows(s.execute(statement))


spent = select(Order.customer_id, func.sum(Product.price * Item.quantity).label("total")).join(Order.items).join(Item.product).group_by(Order.customer_id).cte("spent")
for name, statement in {
    "join": select(Customer.email, Order.status).join(Customer.orders).order_by(Order.id),
    "outer join": select(Customer.email, func.count(Order.id)).outerjoin(Customer.orders).group_by(Customer.id).order_by(Customer.id),
    "cte": select(Customer.card, spent.c.total).join(spent, spent.c.customer_id == Customer.id).order_by(Customer.id),
    "exists": select(Customer.email).where(Customer.orders.any(Order.status == "done")).order_by(Customer.id),
    "in": select(Customer.email).where(Customer.id.in_([1, 3])).order_by(Customer.id),
    "in of nothing": select(Customer.email).where(Customer.id.in_([])),
    "like": select(Customer.id).where(Customer.email.ilike("M***%")).order_by(Customer.id),
    "mask": select(Customer.id).where(Customer.email == "m***@example.com"),
    "window": select(Customer.id, func.row_number().over(partition_by=Customer.birth, order_by=Customer.id)).order_by(Customer.id),
    "json": select(Product.sku).where(Product.attributes["weight"].as_integer() > 100).order_by(Product.id),
    "array": select(Product.sku).where(Product.tags.contains(["paper"])),
    "limit": select(Customer.email).order_by(Customer.id.desc()).limit(1).offset(1),
    "union": select(Customer.email).union_all(select(Product.sku)).order_by("email"),
    "distinct": select(Customer.birth).distinct().order_by(Customer.birth),
    "function": select(func.order_total(Order.id)).order_by(Order.id),
    "cast": select(sqlalchemy.cast(Customer.credit, sqlalchemy.Integer)).order_by(Customer.id),
    "lock": select(Customer.email).where(Customer.id == 1).with_for_update(skip_locked=True),
}.items():
    step(f"query {name}", lambda: queried(statement))


def written(statement, parameters=None):
    with engine.begin() as c:
        result = c.execute(statement, parameters)
        return rows(result) if result.returns_rows else result.rowcount


step("core insert many", lambda: sorted(written(insert(Order).returning(Order.note), [{"customer_id": n, "note": f"n{n}"} for n in (1, 2, 3)])))
step("core upsert", lambda: written(upsert(Product).values(sku="H-1", title="Hammer 2", price=1).on_conflict_do_update(index_elements=["sku"], set_={"title": "Hammer 2"}).returning(Product.title)))
step("core update", lambda: written(update(Customer).where(Customer.id == 3).values(name="Cyd B").returning(Customer.email)))
step("core update from", lambda: written(update(Order).where(Order.customer_id == Customer.id, Customer.name == "Cyd B").values(note=Customer.name)))
step("core delete", lambda: written(delete(Order).where(Order.note.like("n%"))))
step("core executemany", lambda: written(update(Order).where(Order.id == sqlalchemy.bindparam("key")).values(note=sqlalchemy.bindparam("to")), [{"key": 1, "to": "a"}, {"key": 2, "to": "b"}]))
step("core stream", lambda: core(select(Customer.id, Customer.email).order_by(Customer.id), stream_results=True, max_row_buffer=2))
step("core text", lambda: core(text("SELECT email FROM customers WHERE id = :id"), {"id": 1}))


class Author(Base):
    __tablename__ = "authors"
    __table_args__ = (UniqueConstraint("name"), {"comment": "made by the program"})
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), index=True)
    kind: Mapped[str] = mapped_column(ENUM("novel", "poem", name="kind"))


def made():
    Base.metadata.create_all(engine)
    found = [c["name"] for c in inspect(engine).get_columns("authors")]
    Author.__table__.drop(engine)
    Author.__table__.c.kind.type.drop(engine, checkfirst=True)
    return found, inspect(engine).has_table("authors")


step("schema create", made)


def nested():
    with Session(engine) as s:
        s.execute(update(Order).where(Order.id == 1).values(note="outer"))
        try:
            with s.begin_nested():
                s.add(Product(sku="H-1", title="twice", price=1))
        except DBAPIError as error:
            report("transaction savepoint error", [type(error).__name__, error.orig.sqlstate])
        s.commit()
        s.execute(delete(Item))
        s.rollback()
        return s.get(Order, 1).note, s.scalar(select(func.count()).select_from(Item))


def autocommit():
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        return rows(c.execute(select(Customer.email).order_by(Customer.id)))


step("transaction nested", nested)
step("transaction autocommit", autocommit)
step("transaction isolation", lambda: core(text("SHOW transaction_isolation"), isolation_level="REPEATABLE READ"))
step("transaction read only", lambda: core(text("SHOW transaction_read_only"), postgresql_readonly=True))
for name, statement in (("unique", insert(Product).values(sku="H-1", title="x", price=1)), ("foreign key", insert(Order).values(customer_id=99)),
                        ("check", update(Product).values(price=-1)), ("syntax", text("SELEC 1")), ("no table", text("SELECT * FROM nosuch")),
                        ("hidden column", text("SELECT ssn FROM customers"))):
    expect(f"error {name}", lambda: written(statement))


def pooled():
    small = create_engine(engine.url, pool_size=1, max_overflow=0)
    sqlalchemy.event.listen(small, "reset", lambda connection, record, state: (connection.rollback(), setattr(connection, "autocommit", True), connection.execute("DISCARD ALL"), setattr(connection, "autocommit", False)))
    with small.connect() as c:
        c.execute(text("SET search_path = pg_catalog"))
        c.commit()
    with small.connect() as c:
        return rows(c.execute(text("SHOW search_path")))


step("pool reset", pooled)

second = create_engine(f"postgresql+psycopg2://{place}", executemany_mode="values_plus_batch")


def with_psycopg2():
    with Session(second) as s:
        found = [seen(c) for c in s.scalars(select(Customer).order_by(Customer.id))]
        s.execute(insert(Order), [{"customer_id": 1, "note": f"m{n}"} for n in range(3)])
        s.rollback()
        return found, [c["name"] for c in inspect(second).get_columns("customers")]


async def with_asyncpg():
    third = create_async_engine(f"postgresql+asyncpg://{place}")
    async with AsyncSession(third) as s:
        found = [seen(c) for c in await s.scalars(select(Customer).order_by(Customer.id))]
        bob = await s.get(Customer, 2)
        bob.active = True
        await s.commit()
        names = await (await s.connection()).run_sync(lambda c: inspect(c).get_table_names())
    await third.dispose()
    return found, sorted(names)


step("driver psycopg2", with_psycopg2)
step("driver asyncpg", lambda: asyncio.run(with_asyncpg()))
