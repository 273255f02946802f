import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import jakarta.persistence.CascadeType;
import jakarta.persistence.Column;
import jakarta.persistence.ElementCollection;
import jakarta.persistence.Entity;
import jakarta.persistence.EnumType;
import jakarta.persistence.Enumerated;
import jakarta.persistence.FetchType;
import jakarta.persistence.GeneratedValue;
import jakarta.persistence.GenerationType;
import jakarta.persistence.Id;
import jakarta.persistence.Index;
import jakarta.persistence.JoinColumn;
import jakarta.persistence.LockModeType;
import jakarta.persistence.ManyToMany;
import jakarta.persistence.ManyToOne;
import jakarta.persistence.OneToMany;
import jakarta.persistence.Table;
import jakarta.persistence.Version;
import java.math.BigDecimal;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.function.Function;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.StatelessSession;
import org.hibernate.annotations.JdbcTypeCode;
import org.hibernate.cfg.Configuration;
import org.hibernate.dialect.PostgreSQLDialect;
import org.hibernate.type.SqlTypes;

/** Hibernate over HikariCP: schema update and validation, entities of the shop, and some of its own. */
public final class Hibernate {
    private Hibernate() {}

    @Entity(name = "Customer")
    @Table(name = "customers")
    public static class Customer {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Integer id;
        @Column(nullable = false, columnDefinition = "text")
        String name;
        @Column(nullable = false, unique = true, length = 100)
        String email;
        @Column(columnDefinition = "text")
        String card;
        LocalDate birth;
        @Column(nullable = false, precision = 12, scale = 2)
        BigDecimal credit = BigDecimal.ZERO;
        boolean active = true;
        @OneToMany(mappedBy = "customer", cascade = CascadeType.PERSIST)
        List<Order> orders = new ArrayList<>();

        @Override
        public String toString() {
            return List.of(id, name, email, String.valueOf(card), String.valueOf(birth), credit, active).toString();
        }
    }

    @Entity(name = "Order")
    @Table(name = "orders")
    public static class Order {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Integer id;
        @Column(nullable = false, length = 10)
        String status = "new";
        @Column(columnDefinition = "text")
        String note;
        @ManyToOne(fetch = FetchType.LAZY, optional = false)
        @JoinColumn(name = "customer_id")
        Customer customer;

        @Override
        public String toString() {
            return List.of(id, status, String.valueOf(note)).toString();
        }
    }

    /** What is in the enumeration of its own. */
    public enum Kind { PLAIN, RICH }

    @Entity(name = "Label")
    @Table(name = "hb_labels")
    public static class Label {
        @Id
        @GeneratedValue(strategy = GenerationType.SEQUENCE)
        Long id;
        @Column(unique = true, length = 20)
        String text;
    }

    @Entity(name = "Note")
    @Table(name = "hb_notes", indexes = @Index(name = "hb_notes_body", columnList = "body"))
    public static class Note {
        @Id
        @GeneratedValue(strategy = GenerationType.SEQUENCE)
        Long id;
        @Version
        int version;
        @Enumerated(EnumType.STRING)
        @JdbcTypeCode(SqlTypes.NAMED_ENUM)
        Kind kind = Kind.PLAIN;
        @Column(nullable = false)
        String body;
        String[] tags;
        @ElementCollection
        Set<String> words = new HashSet<>();
        @ManyToMany(cascade = CascadeType.PERSIST)
        Set<Label> labels = new HashSet<>();
    }

    private static Configuration configuration(HikariDataSource pool, String hbm2ddl, Class<?>... entities) {
        Properties properties = new Properties();
        properties.put("hibernate.connection.datasource", pool);
        properties.put("hibernate.hbm2ddl.auto", hbm2ddl);
        properties.put("hibernate.hbm2ddl.halt_on_error", "true");
        properties.put("hibernate.jdbc.batch_size", "20");
        properties.put("hibernate.order_inserts", "true");
        Configuration configuration = new Configuration().addProperties(properties);
        for (Class<?> entity : entities) {
            configuration.addAnnotatedClass(entity);
        }
        return configuration;
    }

    private static <T> T transaction(SessionFactory factory, Function<Session, T> work) {
        return factory.fromTransaction(work);
    }

    public static void main(String[] arguments) {
        Steps.versions("Hibernate", SessionFactory.class, "pgjdbc", org.postgresql.Driver.class, "HikariCP", HikariDataSource.class);
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(Steps.url() + "?sslmode=disable&ApplicationName=orders");
        config.setUsername(Steps.env("PGUSER"));
        config.setPassword(Steps.env("PGPASSWORD"));
        config.setMaximumPoolSize(2);
        // Hibernate tells of itself on the standard error.
        java.util.logging.LogManager.getLogManager().reset();
        try (HikariDataSource pool = new HikariDataSource(config)) {
            run(pool);
        }
    }

    private static void run(HikariDataSource pool) {
        Steps.step("schema validate the shop", () -> {
            configuration(pool, "validate", Customer.class, Order.class).buildSessionFactory().close();
            return "valid";
        });
        Steps.step("schema update", () -> {
            configuration(pool, "update", Note.class, Label.class).buildSessionFactory().close();
            return "updated";
        });
        Steps.step("schema update again", () -> {
            configuration(pool, "update", Note.class, Label.class).buildSessionFactory().close();
            return "updated";
        });
        try (SessionFactory factory = configuration(pool, "validate", Customer.class, Order.class, Note.class, Label.class).buildSessionFactory()) {
            Steps.step("connect dialect", () -> factory.unwrap(org.hibernate.engine.spi.SessionFactoryImplementor.class).getJdbcServices().getDialect() instanceof PostgreSQLDialect);
            read(factory);
            write(factory);
            transactions(factory);
            errors(factory);
            Steps.step("read at the end", () -> transaction(factory, session -> session.createSelectionQuery("from Customer order by id", Customer.class).getResultList()));
        }
        Steps.step("schema drop", () -> {
            try (SessionFactory factory = configuration(pool, "none", Note.class, Label.class).buildSessionFactory()) {
                factory.getSchemaManager().dropMappedObjects(false);
            }
            return "dropped";
        });
    }

    private static void read(SessionFactory factory) {
        Steps.step("read all", () -> transaction(factory, session -> session.createSelectionQuery("from Customer order by id", Customer.class).getResultList()));
        Steps.step("read lazily", () -> transaction(factory, session -> List.copyOf(session.find(Customer.class, 1).orders)));
        Steps.step("read by join fetch", () -> transaction(factory, session -> session.createSelectionQuery("from Customer c left join fetch c.orders o where c.active order by c.id, o.id", Customer.class).getResultList().stream().map(customer -> List.of(customer, customer.orders)).toList()));
        Steps.step("read by several keys", () -> transaction(factory, session -> session.findMultiple(Customer.class, List.of(3, 1))));
        Steps.step("read by a mask", () -> transaction(factory, session -> session.createSelectionQuery("from Customer where email = :email", Customer.class).setParameter("email", "m***@example.org").getSingleResult()));
        Steps.step("read by a unique column", () -> transaction(factory, session -> session.createSelectionQuery("select c.name from Customer c where c.card like :card and year(c.birth) = 1937", String.class).setParameter("card", "%0002").getResultList()));
        Steps.step("read a page", () -> transaction(factory, session -> session.createSelectionQuery("from Customer order by name desc", Customer.class).setFirstResult(1).setMaxResults(1).getResultList()));
        Steps.step("read group", () -> transaction(factory, session -> session.createSelectionQuery("select c.name, count(o), max(c.card) from Order o join o.customer c group by c.id order by c.id", Object[].class).getResultList()));
        Steps.step("read by SQL", () -> transaction(factory, session -> session.createNativeQuery("SELECT * FROM customers WHERE id = :id", Customer.class).setParameter("id", 2).getSingleResult()));
        Steps.step("cursor scroll", () -> transaction(factory, session -> {
            List<Object> seen = new ArrayList<>();
            try (var results = session.createSelectionQuery("from Customer order by id", Customer.class).setFetchSize(2).scroll()) {
                while (results.next()) {
                    seen.add(results.get());
                }
            }
            return seen;
        }));
    }

    private static void write(SessionFactory factory) {
        Steps.step("write persist", () -> transaction(factory, session -> {
            Customer dan = new Customer();
            dan.name = "Dan";
            dan.email = "q***@example.com";
            dan.card = "************1234";
            dan.birth = LocalDate.of(1990, 1, 1);
            dan.credit = new BigDecimal("2000.00");
            Order order = new Order();
            order.customer = dan;
            order.note = "first";
            dan.orders.add(order);
            session.persist(dan);
            return dan;
        }));
        // Every column of the row is written back, the masked ones as they were read.
        Steps.step("write what was read", () -> {
            transaction(factory, session -> session.find(Customer.class, 1).name = "Ada L");
            return transaction(factory, session -> session.find(Customer.class, 1));
        });
        Steps.step("write detached", () -> {
            Customer bob = transaction(factory, session -> session.find(Customer.class, 2));
            bob.active = false;
            return transaction(factory, session -> session.merge(bob));
        });
        Steps.step("write types", () -> {
            transaction(factory, session -> {
                Note note = new Note();
                note.kind = Kind.RICH;
                note.body = "first";
                note.tags = new String[] {"x", "y \"z\""};
                note.words.add("word");
                Label label = new Label();
                label.text = "new";
                note.labels.add(label);
                session.persist(note);
                return null;
            });
            return transaction(factory, session -> {
                Note note = session.createSelectionQuery("from Note where kind = RICH", Note.class).getSingleResult();
                return List.of(note.kind, note.body, note.tags, List.copyOf(note.words), note.labels.iterator().next().text, note.version);
            });
        });
        Steps.step("write by HQL", () -> transaction(factory, session -> session.createMutationQuery("update Order set note = 'bulk' where status = 'done'").executeUpdate()));
        Steps.step("write insert from select", () -> transaction(factory, session -> session.createMutationQuery("insert into Order (customer, status, note) select c, 'copy', c.email from Customer c where c.id = 3").executeUpdate()));
        Steps.step("write upsert", () -> {
            for (String text : List.of("old", "newer")) {
                try (StatelessSession session = factory.openStatelessSession()) {
                    var transaction = session.beginTransaction();
                    Label label = new Label();
                    label.id = 1000L;
                    label.text = text;
                    session.upsert(label);
                    transaction.commit();
                }
            }
            return transaction(factory, session -> session.find(Label.class, 1000L).text);
        });
        Steps.step("batch insert", () -> {
            transaction(factory, session -> {
                for (int i = 0; i < 100; i++) {
                    Label label = new Label();
                    label.text = "label " + i;
                    session.persist(label);
                }
                return null;
            });
            return transaction(factory, session -> session.createSelectionQuery("select count(*) from Label", Long.class).getSingleResult());
        });
        Steps.step("batch update", () -> transaction(factory, session -> {
            session.createSelectionQuery("from Label where text like 'label 1%'", Label.class).getResultList().forEach(label -> label.text += "!");
            return null;
        }));
        Steps.step("write delete", () -> transaction(factory, session -> session.createMutationQuery("delete from Order where note = 'bulk' and id not in (1, 2, 3)").executeUpdate()));
        Steps.step("write remove", () -> {
            transaction(factory, session -> {
                session.remove(session.find(Label.class, 1000L));
                return null;
            });
            return transaction(factory, session -> session.find(Label.class, 1000L));
        });
    }

    private static void transactions(SessionFactory factory) {
        Steps.step("transaction commit", () -> {
            transaction(factory, session -> session.find(Order.class, 1).status = "sent");
            return transaction(factory, session -> session.find(Order.class, 1));
        });
        Steps.expect("transaction rollback", () -> transaction(factory, session -> {
            session.createMutationQuery("update Order set status = 'lost'").executeUpdate();
            return session.createNativeQuery("SELECT 1 / 0", Integer.class).getSingleResult();
        }));
        Steps.step("transaction rolled back", () -> transaction(factory, session -> session.createSelectionQuery("select count(*) from Order where status = 'lost'", Long.class).getSingleResult()));
        Steps.step("transaction lock", () -> transaction(factory, session -> session.find(Customer.class, 1, LockModeType.PESSIMISTIC_WRITE)));
        Steps.step("transaction version", () -> {
            Note old = transaction(factory, session -> session.createSelectionQuery("from Note", Note.class).getSingleResult());
            transaction(factory, session -> session.find(Note.class, old.id).body = "second");
            old.body = "stale";
            try {
                transaction(factory, session -> session.merge(old));
                return "FAILED no error";
            } catch (RuntimeException error) {
                return error.getClass().getSimpleName();
            }
        });
        Steps.step("transaction of JDBC", () -> transaction(factory, session -> session.doReturningWork(connection -> {
            var savepoint = connection.setSavepoint();
            String state = null;
            try {
                Steps.change(connection, "INSERT INTO orders (customer_id) VALUES (99)");
            } catch (java.sql.SQLException error) {
                state = error.getSQLState();
            }
            connection.rollback(savepoint);
            return List.of(state, Steps.query(connection, "SELECT count(*) FROM orders"));
        })));
    }

    private static void errors(SessionFactory factory) {
        Steps.expect("error unique", () -> transaction(factory, session -> {
            Label label = new Label();
            label.text = "new";
            session.persist(label);
            return null;
        }));
        Steps.expect("error foreign key", () -> transaction(factory, session -> session.createMutationQuery("delete from Customer where id = 1").executeUpdate()));
        Steps.expect("error hidden column", () -> transaction(factory, session -> session.createNativeQuery("SELECT ssn FROM customers", String.class).getResultList()));
        Steps.expect("error check", () -> transaction(factory, session -> session.createNativeMutationQuery("UPDATE products SET price = -1").executeUpdate()));
    }
}
