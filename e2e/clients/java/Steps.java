import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** One line for each step of a program: {@code step: outcome}. The first word of a step says what kind it is. */
final class Steps {
    interface Call<T> {
        T run() throws Exception;
    }

    interface Work {
        void run() throws Exception;
    }

    private Steps() {}

    static String url() {
        return "jdbc:postgresql://" + env("PGHOST") + ":" + env("PGPORT") + "/" + env("PGDATABASE");
    }

    static String env(String name) {
        return System.getenv(name);
    }

    /** The first line: what is tested. A jar's manifest says its version. */
    static void versions(String name, Class<?> type, Object... more) {
        StringBuilder line = new StringBuilder("# versions: ").append(name).append(' ').append(version(type));
        for (int i = 0; i + 1 < more.length; i += 2) {
            line.append(", ").append(more[i]).append(' ').append(version((Class<?>) more[i + 1]));
        }
        System.out.println(line);
    }

    /** From the name of its jar. */
    private static String version(Class<?> type) {
        String jar = type.getProtectionDomain().getCodeSource().getLocation().getPath();
        return jar.replaceFirst(".*/[A-Za-z-]*-([0-9].*)\\.jar$", "$1");
    }

    static String shown(Object value) {
        if (value instanceof byte[] bytes) {
            return "0x" + HexFormat.of().formatHex(bytes);
        }
        if (value instanceof java.sql.Array array) {
            try {
                return shown(array.getArray());
            } catch (SQLException error) {
                return error.toString();
            }
        }
        if (value instanceof Object[] array) {
            return shown(Arrays.asList(array));
        }
        if (value instanceof int[] numbers) {
            return Arrays.toString(numbers);
        }
        if (value instanceof long[] numbers) {
            return Arrays.toString(numbers);
        }
        if (value instanceof Iterable<?> items) {
            List<String> texts = new ArrayList<>();
            items.forEach(item -> texts.add(shown(item)));
            return "[" + String.join(", ", texts) + "]";
        }
        if (value instanceof Map<?, ?> map) {
            List<String> texts = new ArrayList<>();
            new TreeMap<>(map).forEach((key, item) -> texts.add(key + ": " + shown(item)));
            return "{" + String.join(", ", texts) + "}";
        }
        return String.valueOf(value).replace("\\", "\\\\").replace("\n", "\\n");
    }

    /** The SQLSTATE of an error, whatever wraps it; null if it has none. */
    static String state(Throwable error) {
        for (Throwable at = error; at != null; at = at.getCause()) {
            if (at instanceof SQLException sql && sql.getSQLState() != null) {
                return sql.getSQLState();
            }
        }
        return null;
    }

    static void report(String name, Object outcome) {
        System.out.println(name + ": " + shown(outcome));
    }

    private static void failed(String name, Throwable error) {
        report(name, "FAILED " + error.getClass().getSimpleName() + " " + state(error) + " " + error.getMessage());
    }

    /** Runs a step; what it returns is its outcome. */
    static void step(String name, Call<?> call) {
        try {
            report(name, call.run());
        } catch (Exception error) {
            failed(name, error);
        }
    }

    /** A step that the server refuses: its outcome is the SQLSTATE. */
    static void expect(String name, Work work) {
        try {
            work.run();
        } catch (Exception error) {
            if (state(error) == null) {
                failed(name, error);
            } else {
                report(name, state(error));
            }
            return;
        }
        report(name, "FAILED no error");
    }

    /** The rows of a result: of the columns named, or of all. */
    static List<List<Object>> rows(ResultSet result, String... columns) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        ResultSetMetaData about = result.getMetaData();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            if (columns.length == 0) {
                for (int i = 1; i <= about.getColumnCount(); i++) {
                    row.add(result.getObject(i));
                }
            }
            for (String column : columns) {
                row.add(result.getObject(column));
            }
            rows.add(row);
        }
        result.close();
        return rows;
    }

    /** A query with parameters. */
    static List<List<Object>> query(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            return rows(statement.executeQuery());
        }
    }

    /** A statement with parameters; how many rows it changed. */
    static int change(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            return statement.executeUpdate();
        }
    }
}
