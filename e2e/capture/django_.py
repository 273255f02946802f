import os, datetime, decimal, warnings
import django
from django.conf import settings
warnings.simplefilter("ignore")
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
                           "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"]}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"], USE_TZ=True, SECRET_KEY="k",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
django.setup()
from django.core.management import call_command
from django.db import connection, models, transaction, IntegrityError
import io
call_command("migrate", verbosity=0)
call_command("inspectdb", stdout=io.StringIO())
from django.contrib.auth.models import User, Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
when = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
g = Group.objects.create(name="staff")
users = [User.objects.create(username=f"u{n}", email=f"u{n}@example.com", date_joined=when, password="x", last_login=when) for n in range(3)]
users[0].groups.add(g)
g.permissions.set(Permission.objects.filter(codename__startswith="add_").order_by("id"))
list(User.objects.filter(groups__name="staff").select_related().prefetch_related("groups__permissions"))
list(User.objects.exclude(email="").order_by("-username")[1:3])
list(User.objects.filter(username__icontains="U1", date_joined__year=2024))
list(User.objects.filter(date_joined__date=datetime.date(2024, 1, 2)).values_list("id", "username"))
list(User.objects.annotate(n=models.Count("groups")).filter(n__gte=0).order_by("id").values("username", "n"))
list(User.objects.filter(models.Q(username="u0") | ~models.Q(email__endswith="x")).distinct())
User.objects.aggregate(models.Max("id"), models.Min("username"), models.Count("id", distinct=True))
User.objects.filter(id__in=User.objects.values("id")).exists(); User.objects.count()
list(User.objects.annotate(low=models.functions.Lower("username"), len=models.functions.Length("email"), yr=models.functions.TruncMonth("date_joined")).order_by("id").values())
list(User.objects.annotate(rank=models.Window(models.functions.RowNumber(), order_by=models.F("id").desc())).values("rank").order_by("rank"))
list(User.objects.filter(models.Exists(Group.objects.filter(user=models.OuterRef("pk")))))
list(User.objects.union(User.objects.all()).order_by("id"))
with transaction.atomic():
    u = User.objects.select_for_update().get(username="u1")
    u.first_name = "Uno"; u.save(); u.save(update_fields=["last_name"])
    try:
        with transaction.atomic():
            User.objects.create(username="u1", date_joined=when)
    except IntegrityError:
        pass
User.objects.filter(username="u2").update(is_active=False, last_name=models.functions.Concat("username", models.Value("!")))
User.objects.get_or_create(username="u3", defaults={"date_joined": when, "password": "y"}); User.objects.update_or_create(username="u3", defaults={"email": "z@example.com"})
User.objects.bulk_create([User(username=f"b{n}", date_joined=when) for n in range(3)])
User.objects.bulk_create([User(username="b0", date_joined=when)], ignore_conflicts=True)
User.objects.bulk_update([users[0], users[1]], ["email"])
for u in User.objects.order_by("id").iterator(chunk_size=2):
    pass
ContentType.objects.get_for_model(User); users[0].has_perm("auth.add_user")
Session.objects.create(session_key="k", session_data="d", expire_date=when); Session.objects.filter(expire_date__lt=when).delete()
User.objects.filter(username__startswith="b").delete(); users[0].delete()

class Note(models.Model):
    owner = models.ForeignKey(User, models.CASCADE, null=True)
    text = models.TextField(db_index=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    data = models.JSONField(default=dict)
    raw = models.BinaryField(default=b"")
    due = models.DateField(null=True)
    took = models.DurationField(null=True)
    key = models.UUIDField(null=True)
    class Meta:
        app_label = "auth"
        constraints = [models.CheckConstraint(condition=models.Q(price__gte=0), name="price_positive")]
with connection.schema_editor() as e:
    e.create_model(Note)
n = Note.objects.create(text="t", price=decimal.Decimal("1.50"), data={"a": {"b": 1}}, raw=b"\x01", due=datetime.date(2024, 1, 1), took=datetime.timedelta(hours=1))
list(Note.objects.filter(data__a__b=1, text__regex="^t")); list(Note.objects.filter(data__has_key="a").values()); n.refresh_from_db()
with connection.schema_editor() as e:
    f = models.IntegerField(null=True); f.set_attributes_from_name("extra"); e.add_field(Note, f); e.remove_field(Note, f)
    e.delete_model(Note)
with connection.cursor() as c:
    connection.introspection.get_table_list(c)
    for t in ("customers", "orders", "auth_user"):
        connection.introspection.get_table_description(c, t); connection.introspection.get_constraints(c, t)
        connection.introspection.get_relations(c, t); connection.introspection.get_sequences(c, t); connection.introspection.get_primary_key_columns(c, t)
    c.execute("SELECT %s", ["raw"])
