import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

/** pgjdbc: metadata, batches, generated keys, cursors by fetch size, COPY; HikariCP on top of it. */
public final class Pgjdbc {
    private static final String FIRST = "SELECT * FROM customers WHERE id = ?";

    private Pgjdbc() {}

    public static void main(String[] arguments) throws Exception {
        Steps.versions("pgjdbc", org.postgresql.Driver.class, "HikariCP", HikariDataSource.class);
        Properties properties = new Properties();
        properties.setProperty("user", Steps.env("PGUSER"));
        properties.setProperty("password", Steps.env("PGPASSWORD"));
        properties.setProperty("ApplicationName", "orders");
        properties.setProperty("sslmode", "disable");
        try (Connection connection = DriverManager.getConnection(Steps.url(), properties)) {
            connect(connection);
            introspect(connection.getMetaData());
            read(connection);
            write(connection);
            transactions(connection);
            prepared(connection);
            batches(connection);
            cursors(connection);
            copies(connection.unwrap(PGConnection.class).getCopyAPI());
            errors(connection);
            sessions(connection);
        }
        properties.setProperty("preferQueryMode", "simple");
        try (Connection connection = DriverManager.getConnection(Steps.url(), properties)) {
            Steps.step("connect in simple mode", () -> Steps.query(connection, FIRST, 2));
        }
        properties.setProperty("preferQueryMode", "extendedCacheEverything");
        properties.setProperty("autosave", "always");
        try (Connection connection = DriverManager.getConnection(Steps.url(), properties)) {
            Steps.step("transaction that saves itself", () -> savesItself(connection));
        }
        pool(properties);
    }

    private static void connect(Connection connection) {
        Steps.step("connect valid", () -> connection.isValid(5));
        Steps.step("connect settings", () -> List.of(connection.getSchema(), connection.getCatalog(), connection.getAutoCommit(), connection.isReadOnly(), connection.getTransactionIsolation()));
        Steps.step("connect server", () -> connection.getMetaData().getDatabaseProductName());
    }

    private static void introspect(DatabaseMetaData about) {
        Steps.step("introspect schemas", () -> Steps.rows(about.getSchemas(), "TABLE_SCHEM"));
        Steps.step("introspect tables", () -> Steps.rows(about.getTables(null, "public", "%", null), "TABLE_NAME", "TABLE_TYPE", "REMARKS"));
        Steps.step("introspect system tables", () -> Steps.rows(about.getTables(null, "pg_catalog", "pg\\_class%", new String[] {"SYSTEM TABLE"}), "TABLE_NAME"));
        Steps.step("introspect columns", () -> Steps.rows(about.getColumns(null, "public", "%", "%"),
            "TABLE_NAME", "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "NULLABLE", "REMARKS", "COLUMN_DEF", "ORDINAL_POSITION", "IS_AUTOINCREMENT", "IS_GENERATEDCOLUMN"));
        for (String table : List.of("customers", "order_items")) {
            Steps.step("introspect primary key of " + table, () -> Steps.rows(about.getPrimaryKeys(null, "public", table), "COLUMN_NAME", "KEY_SEQ", "PK_NAME"));
            Steps.step("introspect foreign keys of " + table, () -> Steps.rows(about.getImportedKeys(null, "public", table), "PKTABLE_NAME", "PKCOLUMN_NAME", "FKCOLUMN_NAME", "FK_NAME", "DELETE_RULE"));
            Steps.step("introspect indexes of " + table, () -> Steps.rows(about.getIndexInfo(null, "public", table, false, false), "NON_UNIQUE", "INDEX_NAME", "TYPE", "ORDINAL_POSITION", "COLUMN_NAME", "FILTER_CONDITION"));
            Steps.step("introspect best row of " + table, () -> Steps.rows(about.getBestRowIdentifier(null, "public", table, DatabaseMetaData.bestRowSession, false), "COLUMN_NAME", "TYPE_NAME"));
        }
        Steps.step("introspect exported keys", () -> Steps.rows(about.getExportedKeys(null, "public", "customers"), "FKTABLE_NAME", "FK_NAME"));
        Steps.step("introspect cross reference", () -> Steps.rows(about.getCrossReference(null, "public", "customers", null, "public", "orders"), "FKCOLUMN_NAME"));
        Steps.step("introspect types", () -> Steps.rows(about.getUDTs(null, "public", "%", null), "TYPE_NAME", "DATA_TYPE"));
        Steps.step("introspect type information", () -> Steps.rows(about.getTypeInfo(), "TYPE_NAME", "DATA_TYPE", "AUTO_INCREMENT").stream().filter(row -> List.of("int4", "text", "category", "_numeric").contains(row.get(0))).toList());
        Steps.step("introspect functions", () -> Steps.rows(about.getFunctions(null, "public", "%"), "FUNCTION_NAME", "REMARKS"));
        Steps.step("introspect function columns", () -> Steps.rows(about.getFunctionColumns(null, "public", "%", "%"), "FUNCTION_NAME", "COLUMN_NAME", "TYPE_NAME"));
        Steps.step("introspect procedures", () -> Steps.rows(about.getProcedures(null, "public", "%"), "PROCEDURE_NAME"));
        Steps.step("introspect table privileges", () -> Steps.rows(about.getTablePrivileges(null, "public", "products"), "GRANTEE", "PRIVILEGE"));
        Steps.step("introspect column privileges", () -> Steps.rows(about.getColumnPrivileges(null, "public", "products", "sku"), "GRANTEE", "PRIVILEGE"));
        Steps.step("introspect client info", () -> Steps.rows(about.getClientInfoProperties(), "NAME"));
        Steps.step("introspect keywords", () -> about.getSQLKeywords().contains("analyse"));
        Steps.step("introspect names", () -> List.of(about.getMaxColumnNameLength(), about.getIdentifierQuoteString(), about.storesLowerCaseIdentifiers()));
    }

    private static void read(Connection connection) {
        Steps.step("read all", () -> Steps.query(connection, "SELECT * FROM customers ORDER BY id"));
        Steps.step("read products", () -> Steps.query(connection, "SELECT * FROM products ORDER BY id"));
        Steps.step("read view", () -> Steps.query(connection, "SELECT * FROM customer_orders ORDER BY id"));
        Steps.step("read by a mask", () -> Steps.query(connection, "SELECT id FROM customers WHERE email = ?", "m***@example.org"));
        Steps.step("read any of", () -> Steps.query(connection, "SELECT id, card FROM customers WHERE id = ANY (?) ORDER BY id", connection.createArrayOf("int4", new Integer[] {1, 3})));
        Steps.step("read by date", () -> Steps.query(connection, "SELECT id FROM customers WHERE birth = ? ORDER BY id", LocalDate.of(1937, 1, 1)));
        Steps.step("read result metadata", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT id, email AS mail, birth, credit FROM customers")) {
                ResultSetMetaData about = statement.getMetaData();
                List<List<Object>> columns = new ArrayList<>();
                for (int i = 1; i <= about.getColumnCount(); i++) {
                    columns.add(List.of(about.getColumnLabel(i), about.getColumnName(i), about.getTableName(i), about.getColumnTypeName(i), about.getPrecision(i), about.getScale(i), about.isNullable(i), about.isAutoIncrement(i)));
                }
                return columns;
            }
        });
        Steps.step("read through a call", () -> {
            try (CallableStatement call = connection.prepareCall("{? = call order_total(?)}")) {
                call.registerOutParameter(1, Types.NUMERIC);
                call.setInt(2, 1);
                call.execute();
                return call.getBigDecimal(1);
            }
        });
        Steps.step("read by escapes", () -> Steps.query(connection, "SELECT {fn ucase(name)}, {fn concat(name, '!')} FROM customers WHERE joined >= {ts '2023-01-01 00:00:00'} ORDER BY id"));
    }

    private static void write(Connection connection) {
        Steps.step("write with generated key", () -> {
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO customers (name, email, card, birth, credit) VALUES (?, ?, ?, ?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                insert.setString(1, "Dan");
                insert.setString(2, "q***@example.com");
                insert.setString(3, "************1234");
                insert.setObject(4, LocalDate.of(1990, 1, 1));
                insert.setBigDecimal(5, new BigDecimal("2000"));
                insert.executeUpdate();
                return Steps.rows(insert.getGeneratedKeys());
            }
        });
        Steps.step("write with named key", () -> {
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO orders (customer_id, note) VALUES (?, ?)", new String[] {"id"})) {
                insert.setInt(1, 4);
                insert.setNull(2, Types.VARCHAR);
                insert.executeUpdate();
                return Steps.rows(insert.getGeneratedKeys());
            }
        });
        Steps.step("write update", () -> Steps.change(connection, "UPDATE customers SET name = ?, card = ? WHERE id = ?", "Ada L", "**********0001", 1));
        Steps.step("write types", () -> {
            PGobject json = new PGobject();
            json.setType("jsonb");
            json.setValue("{\"ink\": [\"blue\"]}");
            PGobject category = new PGobject();
            category.setType("category");
            category.setValue("toy");
            return List.of(
                Steps.change(connection, "INSERT INTO products (sku, title, price, tags, attributes, picture, uid, category) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "P-1", "Pen", new BigDecimal("1.20"),
                    connection.createArrayOf("text", new String[] {"a", "b \"c\""}), json, new byte[] {0, 1, -1}, java.util.UUID.fromString("00000000-0000-0000-0000-00000000000a"), category),
                Steps.query(connection, "SELECT tags, attributes, picture, uid, category FROM products WHERE sku = 'P-1'"));
        });
        Steps.step("write upsert", () -> Steps.query(connection, "INSERT INTO products (sku, title, price) VALUES (?, ?, ?) ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title", "H-1", "Big hammer", 5));
        Steps.step("write delete", () -> Steps.change(connection, "DELETE FROM products WHERE sku = ?", "P-1"));
        Steps.step("write through a result", () -> {
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet result = statement.executeQuery("SELECT id, status, note FROM orders ORDER BY id")) {
                result.last();
                result.updateString("note", "changed in place");
                result.updateRow();
                result.moveToInsertRow();
                result.updateInt("id", 77);
                result.updateString("status", "new");
                result.updateString("note", "never");
                String state = null;
                try {
                    result.insertRow();
                } catch (SQLException error) {
                    state = error.getSQLState();
                }
                return List.of(state, Steps.query(connection, "SELECT note FROM orders ORDER BY id DESC LIMIT 1"));
            }
        });
    }

    private static void transactions(Connection connection) {
        Steps.step("transaction commit", () -> {
            connection.setAutoCommit(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            Steps.change(connection, "UPDATE orders SET status = 'sent' WHERE id = 1");
            connection.commit();
            connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            return Steps.query(connection, "SELECT status FROM orders WHERE id = 1");
        });
        Steps.step("transaction rollback", () -> {
            Steps.change(connection, "DELETE FROM order_items");
            connection.rollback();
            return Steps.query(connection, "SELECT count(*) FROM order_items");
        });
        Steps.step("transaction savepoint", () -> {
            Savepoint savepoint = connection.setSavepoint("before");
            String state = null;
            try {
                Steps.change(connection, "INSERT INTO order_items VALUES (99, 1, 1, 1)");
            } catch (SQLException error) {
                state = error.getSQLState();
            }
            connection.rollback(savepoint);
            Savepoint unnamed = connection.setSavepoint();
            Steps.change(connection, "INSERT INTO order_items VALUES (3, 2, 2, 5)");
            connection.releaseSavepoint(unnamed);
            connection.commit();
            return List.of(state, Steps.query(connection, "SELECT * FROM order_items ORDER BY 1, 2"));
        });
        Steps.step("transaction aborted", () -> {
            List<String> states = new ArrayList<>();
            for (String sql : List.of("SELECT 1 / 0", "SELECT 1")) {
                try {
                    Steps.query(connection, sql);
                } catch (SQLException error) {
                    states.add(error.getSQLState());
                }
            }
            connection.rollback();
            return states;
        });
        Steps.expect("transaction read only", () -> {
            connection.setReadOnly(true);
            try {
                Steps.change(connection, "DELETE FROM order_items");
            } finally {
                connection.rollback();
                connection.setReadOnly(false);
            }
        });
        Steps.step("transaction over", () -> {
            connection.setAutoCommit(true);
            return connection.getAutoCommit();
        });
    }

    private static List<Object> savesItself(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        Steps.change(connection, "UPDATE orders SET note = 'saved' WHERE id = 2");
        String state = null;
        try {
            Steps.query(connection, "SELECT nosuch FROM customers");
        } catch (SQLException error) {
            state = error.getSQLState();
        }
        connection.commit();
        return List.of(state, Steps.query(connection, "SELECT note FROM orders WHERE id = 2"));
    }

    private static void prepared(Connection connection) {
        Steps.step("prepared and run often", () -> {
            // From the fifth time on by a named statement, and results in binary.
            List<Object> seen = new ArrayList<>();
            try (PreparedStatement statement = connection.prepareStatement(FIRST)) {
                for (int i = 0; i < 9; i++) {
                    statement.setInt(1, i % 3 + 1);
                    seen.add(Steps.rows(statement.executeQuery(), "name", "email", "birth", "credit"));
                }
            }
            return seen;
        });
        Steps.step("prepared parameters", () -> {
            try (PreparedStatement statement = connection.prepareStatement("UPDATE customers SET name = ?, credit = ? WHERE id = ?")) {
                ParameterMetaData about = statement.getParameterMetaData();
                List<Object> types = new ArrayList<>();
                for (int i = 1; i <= about.getParameterCount(); i++) {
                    types.add(about.getParameterTypeName(i));
                }
                return types;
            }
        });
    }

    private static void batches(Connection connection) {
        Steps.step("batch of one statement", () -> {
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO orders (customer_id, note) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int i = 0; i < 300; i++) {
                    insert.setInt(1, 3);
                    insert.setString(2, "batch " + i);
                    insert.addBatch();
                }
                int[] counts = insert.executeBatch();
                return List.of(counts.length, Steps.rows(insert.getGeneratedKeys(), "id").size());
            }
        });
        Steps.step("batch of several", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.addBatch("UPDATE orders SET status = 'done' WHERE note LIKE 'batch 1%'");
                statement.addBatch("DELETE FROM orders WHERE note LIKE 'batch 2%'");
                statement.addBatch("INSERT INTO orders (customer_id) VALUES (2)");
                return statement.executeBatch();
            }
        });
        Steps.step("batch with an error", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.addBatch("UPDATE orders SET note = 'lost' WHERE id = 3");
                statement.addBatch("INSERT INTO orders (customer_id) VALUES (99)");
                statement.addBatch("DELETE FROM orders");
                try {
                    statement.executeBatch();
                    return "FAILED no error";
                } catch (BatchUpdateException error) {
                    return List.of(error.getSQLState(), error.getUpdateCounts(), Steps.query(connection, "SELECT count(*) FROM orders"));
                }
            }
        });
        Steps.step("batch of results", () -> {
            try (Statement statement = connection.createStatement()) {
                List<Object> results = new ArrayList<>();
                boolean rows = statement.execute("SELECT 1; UPDATE orders SET note = 'two' WHERE id = 2; SELECT card FROM customers ORDER BY id");
                while (rows || statement.getUpdateCount() != -1) {
                    results.add(rows ? Steps.rows(statement.getResultSet()) : statement.getUpdateCount());
                    rows = statement.getMoreResults();
                }
                return results;
            }
        });
    }

    private static void cursors(Connection connection) {
        Steps.step("cursor by fetch size", () -> {
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement("SELECT i, card FROM generate_series(1, 250) AS i CROSS JOIN customers WHERE id = ? ORDER BY i")) {
                statement.setInt(1, 2);
                statement.setFetchSize(100);
                List<List<Object>> rows = Steps.rows(statement.executeQuery());
                return List.of(rows.size(), rows.get(0), rows.get(249));
            } finally {
                connection.rollback();
                connection.setAutoCommit(true);
            }
        });
        Steps.step("cursor left early", () -> {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(10);
                ResultSet result = statement.executeQuery("SELECT i FROM generate_series(1, 100000) AS i");
                result.next();
                result.close();
                return Steps.query(connection, "SELECT 1");
            } finally {
                connection.rollback();
                connection.setAutoCommit(true);
            }
        });
        Steps.step("cursor with most rows", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setMaxRows(2);
                return Steps.rows(statement.executeQuery("SELECT card FROM customers ORDER BY id"));
            }
        });
    }

    private static void copies(CopyManager copy) {
        Steps.step("copy out", () -> {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            long rows = copy.copyOut("COPY (SELECT * FROM customers ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)", out);
            return List.of(rows, out.toString(StandardCharsets.UTF_8));
        });
        Steps.step("copy out of a table", () -> {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy.copyOut("COPY customers (id, email) TO STDOUT", out);
            return out.toString(StandardCharsets.UTF_8).lines().sorted().toList();
        });
        Steps.step("copy in", () -> copy.copyIn("COPY orders (customer_id, note) FROM STDIN", new StringReader("2\ta\\nb\n2\t\\N\n3\tlast\n")));
        Steps.step("copy in of bytes", () -> copy.copyIn("COPY orders (customer_id, note) FROM STDIN WITH (FORMAT csv)", new ByteArrayInputStream("2,\"a,b\"\n".getBytes(StandardCharsets.UTF_8))));
        Steps.expect("copy in of a bad row", () -> copy.copyIn("COPY orders (customer_id, note) FROM STDIN", new StringReader("x\ty\n")));
        Steps.expect("copy in of an unknown customer", () -> copy.copyIn("COPY orders (customer_id, note) FROM STDIN", new StringReader("99\ty\n")));
    }

    private static void errors(Connection connection) {
        Steps.expect("error unique", () -> Steps.change(connection, "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)"));
        Steps.expect("error foreign key", () -> Steps.change(connection, "DELETE FROM customers WHERE id = 1"));
        Steps.expect("error check", () -> Steps.change(connection, "UPDATE products SET price = ? WHERE id = 1", -1));
        Steps.expect("error not null", () -> Steps.change(connection, "INSERT INTO orders (customer_id) VALUES (NULL)"));
        Steps.expect("error syntax", () -> Steps.query(connection, "SELEC 1"));
        Steps.expect("error unknown table", () -> Steps.query(connection, "SELECT * FROM nosuch"));
        Steps.expect("error hidden column", () -> Steps.query(connection, "SELECT ssn FROM customers"));
        Steps.expect("error unknown function", () -> Steps.query(connection, "SELECT nosuch(1)"));
        Steps.step("error fields", () -> {
            try {
                Steps.change(connection, "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)");
                return "FAILED no error";
            } catch (PSQLException error) {
                var fields = error.getServerErrorMessage();
                return List.of(fields.getConstraint(), fields.getTable(), fields.getSchema(), fields.getSeverity());
            }
        });
        Steps.expect("error timeout", () -> {
            // The driver cancels it from a connection of its own.
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT pg_sleep(20)");
            }
        });
        Steps.step("error over", () -> connection.isValid(5));
    }

    private static void sessions(Connection connection) {
        Steps.step("session notifications", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("LISTEN news");
                statement.execute("NOTIFY news, 'hello'");
                List<Object> heard = new ArrayList<>();
                for (PGNotification notification : connection.unwrap(PGConnection.class).getNotifications(2000)) {
                    heard.add(List.of(notification.getName(), notification.getParameter()));
                }
                statement.execute("UNLISTEN *");
                return heard;
            }
        });
        Steps.step("session notices", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("DROP TABLE IF EXISTS never_made");
                return List.of(statement.getWarnings().getSQLState(), statement.getWarnings().getMessage());
            }
        });
        Steps.step("session schema", () -> {
            connection.setSchema("pg_catalog");
            String schema = connection.getSchema();
            connection.setSchema("public");
            return schema;
        });
        Steps.step("session client info", () -> {
            connection.setClientInfo("ApplicationName", "renamed");
            return connection.getClientInfo("ApplicationName");
        });
        Steps.step("session temporary table", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TEMP TABLE picked AS SELECT id, card FROM customers");
                return Steps.query(connection, "SELECT * FROM picked ORDER BY id");
            }
        });
        Steps.step("schema of its own", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE notes (id serial PRIMARY KEY, body text)");
                statement.execute("INSERT INTO notes (body) SELECT email FROM customers ORDER BY id");
                List<List<Object>> rows = Steps.query(connection, "SELECT * FROM notes ORDER BY id");
                statement.execute("DROP TABLE notes");
                return rows;
            }
        });
    }

    private static void pool(Properties properties) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(Steps.url());
        config.setUsername(properties.getProperty("user"));
        config.setPassword(properties.getProperty("password"));
        config.addDataSourceProperty("sslmode", "disable");
        config.setMaximumPoolSize(2);
        config.setAutoCommit(false);
        config.setConnectionInitSql("SET lock_timeout = '5s'");
        config.setKeepaliveTime(30_000);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            Steps.step("pool first", () -> {
                try (Connection connection = pool.getConnection()) {
                    List<List<Object>> rows = Steps.query(connection, "SHOW lock_timeout");
                    connection.commit();
                    connection.setReadOnly(true);
                    connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
                    return rows;
                }
            });
            Steps.step("pool reset", () -> {
                List<Object> seen = new ArrayList<>();
                try (Connection one = pool.getConnection(); Connection two = pool.getConnection()) {
                    for (Connection connection : List.of(one, two)) {
                        seen.add(List.of(connection.isReadOnly(), connection.getTransactionIsolation(), Steps.query(connection, FIRST, 1)));
                    }
                }
                return seen;
            });
            Steps.step("pool read at the end", () -> {
                try (Connection connection = pool.getConnection()) {
                    return Steps.query(connection, "SELECT id, name, email, card, birth, credit FROM customers ORDER BY id");
                }
            });
        }
    }
}
