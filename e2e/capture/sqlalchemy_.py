from sqlalchemy import create_engine, inspect, MetaData, Table, select, func, text, ForeignKey, String, Numeric, Boolean, DateTime, JSON, LargeBinary, Index, UniqueConstraint, insert, update, delete
from sqlalchemy.dialects.postgresql import insert as upsert, ARRAY, JSONB, UUID, ENUM
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, Session, selectinload, joinedload
import decimal, uuid

engine = create_engine("postgresql+psycopg://", pool_pre_ping=True, pool_reset_on_return="rollback")
i = inspect(engine)
i.get_schema_names()
for schema in ("public", "archive"):
    for name in i.get_table_names(schema=schema):
        i.get_columns(name, schema); i.get_pk_constraint(name, schema); i.get_foreign_keys(name, schema)
        i.get_indexes(name, schema); i.get_unique_constraints(name, schema); i.get_check_constraints(name, schema)
        i.get_table_comment(name, schema)
    i.get_view_names(schema); i.get_sequence_names(schema); i.get_materialized_view_names(schema); i.get_enums(schema)
i.get_view_definition("customer_totals"); i.has_table("customers"); i.has_table("nosuch"); i.get_domains(); i.has_sequence("ticket_numbers")
metadata = MetaData(); metadata.reflect(engine)
metadata = MetaData(); metadata.reflect(engine, schema="archive", views=True)
orders = Table("orders", MetaData(), autoload_with=engine)

class Base(DeclarativeBase):
    pass

class Author(Base):
    __tablename__ = "sa_authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), index=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")

class Book(Base):
    __tablename__ = "sa_books"
    __table_args__ = (UniqueConstraint("author_id", "title"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(8, 2), default=0)
    kind: Mapped[str] = mapped_column(ENUM("novel", "poem", name="sa_kind"), default="novel")
    meta: Mapped[dict] = mapped_column(JSONB, default=dict)
    tags: Mapped[list] = mapped_column(ARRAY(String), default=list)
    uid: Mapped[uuid.UUID] = mapped_column(UUID, default=lambda: uuid.UUID(int=1))
    author_id: Mapped[int] = mapped_column(ForeignKey("sa_authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")

Base.metadata.create_all(engine)
with Session(engine) as s:
    a = Author(name="Ann", books=[Book(title="One", price=decimal.Decimal("9.99"), meta={"x": [1]}, tags=["a"]), Book(title="Two", kind="poem")])
    s.add_all([a, Author(name="Ben"), Author(name="Cal")])
    s.commit()
    s.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id)).all()
    s.scalars(select(Book).options(joinedload(Book.author)).where(Book.price > 1)).all()
    s.execute(select(Author.name, func.count(Book.id)).outerjoin(Book).group_by(Author.name).having(func.count(Book.id) >= 0).order_by(Author.name)).all()
    b = s.scalars(select(Book).where(Book.title == "One").with_for_update()).one()
    b.price = decimal.Decimal("5.00"); b.meta = {"y": 2}
    s.flush()
    s.refresh(b)
    s.scalars(select(Book).where(Book.meta["y"].as_integer() == 2)).all()
    s.scalars(select(Book).where(Book.tags.contains(["a"]))).all()
    s.scalars(select(Author).where(Author.name.ilike("%a%")).order_by(Author.name.desc()).limit(1).offset(1)).all()
    s.scalars(select(Author).where(Author.id.in_([1, 2, 3]))).all()
    sub = select(Book.author_id).where(Book.kind == "poem").subquery()
    s.execute(select(Author.name).where(Author.id.in_(select(sub.c.author_id)))).all()
    cte = select(Book.author_id, func.sum(Book.price).label("total")).group_by(Book.author_id).cte("totals")
    s.execute(select(Author.name, cte.c.total).join(cte, cte.c.author_id == Author.id)).all()
    s.execute(upsert(Author).values(id=1, name="Anna").on_conflict_do_update(index_elements=["id"], set_={"name": "Anna"}).returning(Author.id)).all()
    s.execute(update(Author).where(Author.name == "Ben").values(name="Benn"), execution_options={"synchronize_session": "fetch"})
    s.execute(delete(Author).where(Author.name == "Cal"))
    with s.begin_nested():
        s.execute(insert(Author).values(name="Dot"))
    s.bulk_save_objects([Author(name=f"bulk {n}") for n in range(5)])
    s.commit()
    try:
        s.add(Book(title="One", author_id=1)); s.commit()
    except Exception:
        s.rollback()
    s.delete(s.get(Author, 1)); s.commit()
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
    c.execute(text("SELECT :x + 1"), {"x": 1}).scalar()
    c.execute(select(orders).order_by(orders.c.id)).all()
with engine.connect().execution_options(stream_results=True, max_row_buffer=2) as c:
    for row in c.execute(select(orders).order_by(orders.c.id)):
        pass
Base.metadata.drop_all(engine)
