import java.sql.*;
import java.util.*;

public class Jdbc {
    static void all(ResultSet r) throws SQLException {
        int n = r.getMetaData().getColumnCount();
        while (r.next()) for (int i = 1; i <= n; i++) r.getObject(i);
        r.close();
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("ApplicationName", "jdbc-test");
        p.setProperty("sslmode", "disable");
        p.setProperty("gssEncMode", "disable");
        try (Connection c = DriverManager.getConnection(url, p)) {
            DatabaseMetaData m = c.getMetaData();
            m.getDatabaseProductVersion();
            all(m.getSchemas()); all(m.getCatalogs()); all(m.getTableTypes());
            all(m.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}));
            all(m.getTables(null, null, "cust%", null));
            all(m.getColumns(null, "public", "customers", "%")); all(m.getColumns(null, "public", "%", "%"));
            all(m.getPrimaryKeys(null, "public", "orders")); all(m.getImportedKeys(null, "public", "orders"));
            all(m.getExportedKeys(null, "public", "customers")); all(m.getCrossReference(null, "public", "customers", null, "public", "orders"));
            all(m.getIndexInfo(null, "public", "customers", false, true)); all(m.getTypeInfo());
            all(m.getProcedures(null, "public", "%")); all(m.getFunctions(null, "public", "%"));
            all(m.getFunctionColumns(null, "public", "add_vat", "%")); all(m.getUDTs(null, "public", "%", null));
            all(m.getTablePrivileges(null, "public", "customers")); all(m.getColumnPrivileges(null, "public", "customers", "%"));
            all(m.getBestRowIdentifier(null, "public", "customers", DatabaseMetaData.bestRowSession, true));
            all(m.getVersionColumns(null, "public", "customers")); m.getSQLKeywords(); all(m.getClientInfoProperties());
            try (Statement s = c.createStatement()) {
                all(s.executeQuery("SELECT * FROM customers ORDER BY id"));
                ResultSetMetaData d = s.executeQuery("SELECT id, name, balance FROM customers").getMetaData();
                for (int i = 1; i <= d.getColumnCount(); i++) { d.isAutoIncrement(i); d.isNullable(i); d.getColumnTypeName(i); d.getPrecision(i); }
                s.execute("SELECT 1; SELECT 2");
                s.executeUpdate("INSERT INTO orders (customer_id, item) VALUES (1, 'jdbc')", Statement.RETURN_GENERATED_KEYS);
                all(s.getGeneratedKeys());
                try { s.execute("SELECT nosuch"); } catch (SQLException e) { e.getSQLState(); }
                s.setMaxRows(2); all(s.executeQuery("SELECT * FROM orders ORDER BY id"));
                s.setQueryTimeout(10); all(s.executeQuery("SELECT count(*) FROM orders"));
            }
            try (PreparedStatement s = c.prepareStatement("SELECT id, name, balance, born, joined, tags, avatar FROM customers WHERE id = ? AND name <> ?")) {
                for (int i = 0; i < 8; i++) { s.setInt(1, i % 3 + 1); s.setString(2, "x"); all(s.executeQuery()); }
                s.getParameterMetaData().getParameterCount();
            }
            try (PreparedStatement s = c.prepareStatement("INSERT INTO orders (customer_id, item, amount) VALUES (?, ?, ?)")) {
                for (int i = 0; i < 4; i++) { s.setInt(1, 2); s.setString(2, "batch " + i); s.setInt(3, i); s.addBatch(); }
                s.executeBatch();
            }
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                s.setFetchSize(2); all(s.executeQuery("SELECT * FROM orders ORDER BY id"));
            }
            Savepoint sp = c.setSavepoint("sp");
            try (PreparedStatement s = c.prepareStatement("UPDATE orders SET amount = ?, placed = ? WHERE item = ? RETURNING *")) {
                s.setInt(1, 3); s.setTimestamp(2, Timestamp.valueOf("2024-03-03 03:03:03")); s.setString(3, "jdbc"); all(s.executeQuery());
            }
            c.rollback(sp); c.releaseSavepoint(sp);
            try (PreparedStatement s = c.prepareStatement("SELECT ?::uuid, ?::jsonb, ?::numeric, ?::date, ?, ?")) {
                s.setString(1, "00000000-0000-0000-0000-000000000007"); s.setString(2, "{}"); s.setBigDecimal(3, new java.math.BigDecimal("1.5"));
                s.setDate(4, java.sql.Date.valueOf("2024-01-01")); s.setLong(5, 5); s.setNull(6, Types.VARCHAR); all(s.executeQuery());
            }
            try (PreparedStatement s = c.prepareStatement("SELECT * FROM customers WHERE id = ANY (?) ORDER BY id")) {
                s.setArray(1, c.createArrayOf("int4", new Integer[] {1, 3})); all(s.executeQuery());
            }
            try (CallableStatement s = c.prepareCall("{? = call add_vat(?, ?)}")) {
                s.registerOutParameter(1, Types.NUMERIC); s.setBigDecimal(2, java.math.BigDecimal.TEN); s.setBigDecimal(3, java.math.BigDecimal.ONE); s.execute(); s.getBigDecimal(1);
            }
            c.commit();
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE); c.setReadOnly(true);
            try (Statement s = c.createStatement()) { all(s.executeQuery("SELECT current_user")); }
            c.rollback(); c.setReadOnly(false); c.setAutoCommit(true);
            c.setSchema("archive"); c.getSchema(); c.setSchema("public"); c.isValid(5);
            org.postgresql.copy.CopyManager copy = c.unwrap(org.postgresql.PGConnection.class).getCopyAPI();
            copy.copyOut("COPY (SELECT * FROM orders ORDER BY id) TO STDOUT CSV", new java.io.ByteArrayOutputStream());
            copy.copyIn("COPY base_things (id, label) FROM STDIN CSV", new java.io.StringReader("40,jdbc\n41,jdbc\n"));
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet r = s.executeQuery("SELECT id, label FROM base_things WHERE id >= 40 ORDER BY id");
                r.next(); r.updateString("label", "updated"); r.updateRow(); r.last(); r.deleteRow();
            }
            try (Statement s = c.createStatement()) { s.executeUpdate("DELETE FROM orders WHERE item LIKE 'batch%' OR item = 'jdbc'"); }
        }
    }
}
