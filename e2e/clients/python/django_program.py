"""Django: migrations, inspectdb, the models that it writes, and the ORM over them."""

import datetime
import decimal
import io
import os
import sys
import types

import django
import psycopg
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
                           "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"], "CONN_MAX_AGE": None}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.postgres"], USE_TZ=True, TIME_ZONE="UTC", SECRET_KEY="k",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
django.setup()

from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg, StringAgg
from django.contrib.postgres.search import SearchVector
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery, Sum, Value, Window
from django.db.models.functions import Concat, Length, Lower, Rank, RowNumber, TruncMonth

from steps import expect, report, step, versions

versions(Django=django.get_version(), psycopg=psycopg.__version__)


def command(name, *arguments, **options):
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, **options)
    return out.getvalue()


step("connect", lambda: (connection.ensure_connection(), connection.vendor, connection.is_usable())[1:])
step("connect features", lambda: [connection.features.supports_json_field, connection.features.has_select_for_update_skip_locked])
written = []
step("introspect inspectdb", lambda: (written.append(command("inspectdb")), written[0])[1])
step("introspect inspectdb views", lambda: command("inspectdb", "customer_orders", include_views=True))


def introspected(method, *arguments):
    with connection.cursor() as cursor:
        return getattr(connection.introspection, method)(cursor, *arguments)


step("introspect tables", lambda: sorted(tuple(table)[:3] for table in introspected("get_table_list")))
for table in ("customers", "products", "orders", "order_items"):
    # The second field is the type's oid, which an enum of the database's own has anew.
    step(f"introspect get_table_description {table}", lambda: [(c.name, *c[2:]) for c in introspected("get_table_description", table)])
    for method in ("get_constraints", "get_relations", "get_sequences", "get_primary_key_columns"):
        step(f"introspect {method} {table}", lambda: introspected(method, table))

# The models are what inspectdb wrote.
shop = types.ModuleType("shop")
sys.modules["shop"] = shop
exec(written[0].replace("class Meta:", "class Meta:\n        app_label = 'auth'"), shop.__dict__)
Customers, Orders, OrderItems, Products = shop.Customers, shop.Orders, shop.OrderItems, shop.Products

step("migrate", lambda: command("migrate", verbosity=0))
step("migrate again", lambda: command("migrate", verbosity=1))
step("migrate plan", lambda: command("showmigrations", "auth"))


def seen(customer):
    return [customer.id, customer.name, customer.email, customer.card, customer.birth, customer.credit, customer.active]


step("orm all", lambda: [seen(c) for c in Customers.objects.order_by("id")])
step("orm get", lambda: seen(Customers.objects.get(pk=1)))
step("orm values", lambda: list(Customers.objects.order_by("id").values("email", "card")))
step("orm values list", lambda: list(Customers.objects.order_by("id").values_list("email", flat=True)))
step("orm products", lambda: list(Products.objects.order_by("id").values()))
step("orm related", lambda: [(o.customer.email, o.note) for o in Orders.objects.select_related("customer").order_by("id")])
step("orm prefetch", lambda: [(c.email, [o.note for o in c.orders_set.all()]) for c in Customers.objects.prefetch_related(models.Prefetch("orders_set", Orders.objects.order_by("id"))).order_by("id")])
step("orm filter mask", lambda: list(Customers.objects.filter(email="m***@example.com").values_list("id")))
step("orm filter contains", lambda: list(Customers.objects.filter(email__icontains="EXAMPLE.O").values_list("id")))
step("orm filter year", lambda: list(Customers.objects.filter(birth__year=1937, joined__date=datetime.date(2024, 1, 1)).order_by("id").values_list("id")))
step("orm filter regex", lambda: list(Customers.objects.filter(card__regex=r"^\*+000[12]$").order_by("id").values_list("id")))
step("orm filter q", lambda: list(Customers.objects.filter(Q(name="Ada") | ~Q(credit__gt=0)).order_by("id").values_list("id")))
step("orm filter json", lambda: list(Products.objects.filter(attributes__weight__gt=100).values_list("sku")))
step("orm exists", lambda: list(Customers.objects.filter(Exists(Orders.objects.filter(customer=OuterRef("pk"), status="done"))).values_list("email")))
step("orm annotate", lambda: list(Customers.objects.annotate(n=Count("orders"), short=Lower("email"), long=Length("card")).order_by("id").values_list("n", "short", "long")))
step("orm aggregate", lambda: Customers.objects.aggregate(Sum("credit"), Count("birth", distinct=True), models.Max("email")))
step("orm aggregate arrays", lambda: Customers.objects.aggregate(a=ArrayAgg("email", order_by="id"), s=StringAgg("card", ",", order_by="id")))
step("orm window", lambda: list(Customers.objects.annotate(r=Window(Rank(), order_by=F("credit").desc()), n=Window(RowNumber(), order_by="id")).order_by("id").values_list("r", "n")))
step("orm subquery", lambda: list(Orders.objects.annotate(card=Subquery(Customers.objects.filter(pk=OuterRef("customer")).values("card")[:1])).order_by("id").values_list("card")))
step("orm concat", lambda: list(Customers.objects.annotate(t=Concat("name", Value(" <"), "email", Value(">"), output_field=models.TextField())).order_by("id").values_list("t")))
step("orm union", lambda: list(Customers.objects.values_list("email").union(Products.objects.values_list("sku")).order_by("email")))
step("orm iterator", lambda: [c.email for c in Customers.objects.order_by("id").iterator(chunk_size=2)])
step("orm search", lambda: list(Products.objects.annotate(v=SearchVector("title")).filter(v="hammer").values_list("sku")))
step("orm raw", lambda: [seen(c) for c in Customers.objects.raw("SELECT * FROM customers WHERE id = %s", [2])])
step("orm defer", lambda: [c.email for c in Customers.objects.defer("email").order_by("id")])
step("orm explain", lambda: Products.objects.filter(pk=1).explain(costs=False))

step("write create", lambda: seen(Customers.objects.create(name="Eve", email="e***@example.com", card="************1111", birth=datetime.date(1990, 1, 1), credit=decimal.Decimal(2000),
                                                           active=True, joined=datetime.datetime(2024, 5, 6, tzinfo=datetime.timezone.utc))))


def saved():
    ada = Customers.objects.get(pk=1)
    ada.name = "Ada B"
    ada.save()
    ada.save(update_fields=["email"])
    ada.refresh_from_db()
    return seen(ada)


def locked():
    with transaction.atomic():
        bob = Customers.objects.select_for_update(of=("self",)).get(pk=2)
        bob.active = not bob.active
        bob.save()
    return seen(Customers.objects.get(pk=2))


step("write save", saved)
step("write locked", locked)
step("write update", lambda: Customers.objects.filter(pk=3).update(name=Concat("name", Value("!"), output_field=models.TextField()), credit=0))
step("write bulk", lambda: [o.note for o in Orders.objects.bulk_create([Orders(customer_id=n, status="new", note=f"n{n}", placed=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)) for n in (1, 2, 3)])])
step("write bulk ignoring", lambda: len(Products.objects.bulk_create([Products(sku="H-1", title="x", category="toy", price=1, tags="{}", attributes={}, added=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))], ignore_conflicts=True)))


def bulk_update():
    found = list(Orders.objects.filter(note__startswith="n").order_by("note"))
    for order in found:
        order.status = "done"
    return Orders.objects.bulk_update(found, ["status"])


step("write bulk update", bulk_update)
step("write get or create", lambda: [Products.objects.get_or_create(sku="S-1", defaults={"title": "Saw", "category": "tool", "price": 2, "tags": "{}", "attributes": {"a": [1]}, "added": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)})[1] for _ in range(2)])
step("write update or create", lambda: Customers.objects.update_or_create(pk=2, defaults={"name": "Bob B"})[1])
step("write delete", lambda: Orders.objects.filter(note__startswith="n").delete())
step("write delete one", lambda: Customers.objects.get(name="Eve").delete())


def users():
    when = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    group = Group.objects.create(name="staff")
    people = [User.objects.create_user(f"u{n}", f"u{n}@example.com", "secret") for n in range(3)]
    people[0].groups.add(group)
    group.permissions.set(Permission.objects.filter(codename__startswith="add_").order_by("id"))
    Session.objects.create(session_key="k", session_data="d", expire_date=when)
    Session.objects.filter(expire_date__lt=when).delete()
    User.objects.filter(username="u2").delete()
    return [people[0].has_perm("auth.add_user"), ContentType.objects.get_for_model(User).model,
            list(User.objects.filter(groups__name="staff").values_list("username", "email")), User.objects.annotate(m=TruncMonth("date_joined")).count()]


step("contrib users", users)


class Note(models.Model):
    owner = models.ForeignKey(User, models.CASCADE, null=True)
    text = models.TextField(db_index=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    data = models.JSONField(default=dict)
    took = models.DurationField(null=True)

    class Meta:
        app_label = "auth"
        constraints = [models.CheckConstraint(condition=Q(price__gte=0), name="price_positive")]


def edited():
    with connection.schema_editor() as editor:
        editor.create_model(Note)
    note = Note.objects.create(text="t", price=decimal.Decimal("1.50"), data={"a": {"b": 1}}, took=datetime.timedelta(hours=1))
    found = list(Note.objects.filter(data__a__b=1, data__has_key="a").values_list("text", "took"))
    with connection.schema_editor() as editor:
        extra = models.IntegerField(null=True)
        extra.set_attributes_from_name("extra")
        editor.add_field(Note, extra)
        editor.remove_field(Note, extra)
        editor.alter_field(Note, Note._meta.get_field("text"), (lambda f: (f.set_attributes_from_name("text"), f)[1])(models.CharField(max_length=20)))
        editor.delete_model(Note)
    return found


step("schema editor", edited)


def nested():
    with transaction.atomic():
        Orders.objects.filter(pk=1).update(note="outer")
        try:
            with transaction.atomic():
                Products.objects.filter(pk=1).update(sku="B-1")
        except IntegrityError as error:
            report("transaction savepoint error", error.__cause__.sqlstate)
        sid = transaction.savepoint()
        Orders.objects.filter(pk=1).update(note="inner")
        transaction.savepoint_rollback(sid)
    return Orders.objects.get(pk=1).note


def rolled_back():
    try:
        with transaction.atomic():
            OrderItems.objects.filter(line=2).delete()
            raise KeyError
    except KeyError:
        return OrderItems.objects.count()


step("transaction nested", nested)
step("transaction rollback", rolled_back)


def sql(query, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def copied():
    with connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT id, email FROM customers ORDER BY id) TO STDOUT") as copy:
            return b"".join(map(bytes, copy)).decode()


step("copy out", copied)
for name, query in (("unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'x', 1)"), ("foreign key", "INSERT INTO orders (customer_id) VALUES (99)"),
                    ("syntax", "SELEC 1"), ("no table", "SELECT * FROM nosuch"), ("hidden column", "SELECT ssn FROM customers")):
    expect(f"error {name}", lambda: sql(query))
step("check", lambda: command("check", databases=["default"], stderr=io.StringIO()))
connection.close()
settings.DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 2}}
connection.settings_dict.update(OPTIONS={"pool": {"min_size": 1, "max_size": 2}}, CONN_MAX_AGE=0)
step("pool", lambda: [(sql("SELECT email FROM customers WHERE id = %s", n), connection.close())[0] for n in (1, 2, 3)])
step("pool close", connection.close_pool)
step("flush", lambda: command("sqlflush").count("TRUNCATE"))
