// pgx: its own interface with binary results, batches, pipelines, COPY, pgxpool, and database/sql on top.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"clients/steps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

var ctx = context.Background()

type querier interface {
	Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error)
}

// query returns all rows, dates and numerics as text.
func query(from querier, sql string, arguments ...any) ([][]any, error) {
	rows, err := from.Query(ctx, sql, arguments...)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func collect(rows pgx.Rows) ([][]any, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) {
		values, err := row.Values()
		for i, value := range values {
			switch value := value.(type) {
			case pgtype.Numeric:
				text, _ := value.Value()
				values[i] = text
			case [16]byte:
				values[i] = fmt.Sprintf("%x", value)
			}
		}
		return values, err
	})
}

type customer struct {
	ID     int32
	Name   string
	Email  string
	Card   *string
	Birth  *time.Time
	Credit float64
}

func (c customer) String() string {
	return steps.Shown([]any{c.ID, c.Name, c.Email, c.Card, c.Birth, c.Credit})
}

func main() {
	steps.Versions("github.com/jackc/pgx/v5")
	var conn *pgx.Conn
	steps.Step("connect", func() (any, error) {
		var err error
		conn, err = pgx.Connect(ctx, steps.URL())
		if err != nil {
			return nil, err
		}
		return []any{conn.PgConn().ParameterStatus("client_encoding"), conn.PgConn().ParameterStatus("standard_conforming_strings")}, conn.Ping(ctx)
	})
	introspect(conn)
	read(conn)
	write(conn)
	transactions(conn)
	prepared(conn)
	batches(conn)
	cursors(conn)
	copies(conn)
	failures(conn)
	sessions(conn)
	modes()
	conn.Close(ctx)
	pool()
	databaseSQL()
}

func introspect(conn *pgx.Conn) {
	steps.Step("introspect statement", func() (any, error) {
		about, err := conn.Prepare(ctx, "", "SELECT id, email, birth, credit FROM customers WHERE id = $1 AND email = $2")
		if err != nil {
			return nil, err
		}
		var fields []any
		for _, field := range about.Fields {
			fields = append(fields, []any{field.Name, field.DataTypeOID, field.TypeModifier})
		}
		return []any{fmt.Sprint(about.ParamOIDs), fields}, nil
	})
	steps.Step("introspect types", func() (any, error) {
		types, err := conn.LoadTypes(ctx, []string{"category", "_category", "products"})
		if err != nil {
			return nil, err
		}
		conn.TypeMap().RegisterTypes(types)
		var names []string
		for _, loaded := range types {
			names = append(names, loaded.Name)
		}
		sort.Strings(names)
		return names, nil
	})
	steps.Step("introspect type", func() (any, error) {
		loaded, err := conn.LoadType(ctx, "category")
		if err != nil {
			return nil, err
		}
		return loaded.Name, nil
	})
	steps.Step("introspect a row as a composite", func() (any, error) {
		return query(conn, "SELECT products FROM products WHERE id = $1", 2)
	})
}

func read(conn *pgx.Conn) {
	steps.Step("read all", func() (any, error) { return query(conn, "SELECT * FROM customers ORDER BY id") })
	steps.Step("read products", func() (any, error) { return query(conn, "SELECT * FROM products ORDER BY id") })
	steps.Step("read structs", func() (any, error) {
		rows, err := conn.Query(ctx, "SELECT id, name, email, card, birth, credit::float8 FROM customers ORDER BY id")
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[customer])
		return fmt.Sprint(found), err
	})
	steps.Step("read one", func() (any, error) {
		var name, card string
		err := conn.QueryRow(ctx, "SELECT name, card FROM customers WHERE id = $1", 2).Scan(&name, &card)
		return []any{name, card}, err
	})
	steps.Step("read none", func() (any, error) {
		var name string
		err := conn.QueryRow(ctx, "SELECT name FROM customers WHERE id = $1", 99).Scan(&name)
		return errors.Is(err, pgx.ErrNoRows), nil
	})
	steps.Step("read any of", func() (any, error) {
		return query(conn, "SELECT id, email FROM customers WHERE id = ANY ($1) ORDER BY id", []int32{1, 3})
	})
	steps.Step("read by a mask", func() (any, error) {
		return query(conn, "SELECT id FROM customers WHERE email = $1", "m***@example.org")
	})
	steps.Step("read by names", func() (any, error) {
		return query(conn, "SELECT name FROM customers WHERE id = @id AND active = @active", pgx.NamedArgs{"id": 1, "active": true})
	})
	steps.Step("read view", func() (any, error) { return query(conn, "SELECT * FROM customer_orders ORDER BY id") })
	steps.Step("read rows as JSON", func() (any, error) { return query(conn, "SELECT to_jsonb(c) FROM customers c ORDER BY id") })
	steps.Step("read whole row", func() (any, error) { return query(conn, "SELECT (c).email, (c).card FROM customers c ORDER BY (c).id") })
	steps.Step("read through a function", func() (any, error) { return query(conn, "SELECT order_total($1)", 1) })
}

func write(conn *pgx.Conn) {
	steps.Step("write insert", func() (any, error) {
		return query(conn, "INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING id, name, email, birth, credit",
			"Dan", "q***@example.com", "************1234", time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), 2000)
	})
	steps.Step("write update", func() (any, error) {
		tag, err := conn.Exec(ctx, "UPDATE customers SET name = $2, card = $3 WHERE id = $1", 1, "Ada L", "**********0001")
		return tag.String(), err
	})
	steps.Step("write types", func() (any, error) {
		return query(conn, `INSERT INTO products (sku, title, price, tags, attributes, picture, uid, category)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING tags, attributes, picture, uid, category`,
			"P-1", "Pen", "1.20", []string{"a", `b "c"`}, map[string]any{"ink": []string{"blue"}}, []byte{0, 1, 255}, "00000000-0000-0000-0000-00000000000a", "toy")
	})
	steps.Step("write upsert", func() (any, error) {
		return query(conn, "INSERT INTO products (sku, title, price) VALUES ($1, $2, $3) ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title", "H-1", "Big hammer", 5)
	})
	steps.Step("write delete", func() (any, error) {
		tag, err := conn.Exec(ctx, "DELETE FROM products WHERE sku = $1", "P-1")
		return tag.RowsAffected(), err
	})
}

func transactions(conn *pgx.Conn) {
	steps.Step("transaction commit", func() (any, error) {
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE orders SET status = 'sent' WHERE id = 1")
			return err
		})
		if err != nil {
			return nil, err
		}
		return query(conn, "SELECT status FROM orders WHERE id = 1")
	})
	steps.Step("transaction rollback", func() (any, error) {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM order_items"); err != nil {
			return nil, err
		}
		if err := tx.Rollback(ctx); err != nil {
			return nil, err
		}
		return query(conn, "SELECT count(*) FROM order_items")
	})
	steps.Step("transaction savepoint", func() (any, error) {
		var state string
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			state = steps.State(pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, "INSERT INTO order_items VALUES (99, 1, 1, 1)")
				return err
			}))
			_, err := tx.Exec(ctx, "INSERT INTO order_items VALUES (3, 2, 2, 5)")
			return err
		})
		if err != nil {
			return nil, err
		}
		items, err := query(conn, "SELECT * FROM order_items ORDER BY 1, 2")
		return []any{state, items}, err
	})
	steps.Expect("transaction read only", func() error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM orders")
			return err
		})
	})
	steps.Step("transaction aborted", func() (any, error) {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		_, first := tx.Exec(ctx, "SELECT 1 / 0")
		_, second := tx.Exec(ctx, "SELECT 1")
		return []any{steps.State(first), steps.State(second), errors.Is(tx.Commit(ctx), pgx.ErrTxCommitRollback)}, nil
	})
}

func prepared(conn *pgx.Conn) {
	steps.Step("prepared by name", func() (any, error) {
		if _, err := conn.Prepare(ctx, "by_id", "SELECT name, email FROM customers WHERE id = $1"); err != nil {
			return nil, err
		}
		var all []any
		for id := range 3 {
			rows, err := query(conn, "by_id", id+1)
			if err != nil {
				return nil, err
			}
			all = append(all, rows)
		}
		return all, conn.Deallocate(ctx, "by_id")
	})
	steps.Step("prepared by the cache", func() (any, error) {
		var all []any
		for id := range 3 {
			rows, err := query(conn, "SELECT birth, credit FROM customers WHERE id = $1", id+1)
			if err != nil {
				return nil, err
			}
			all = append(all, rows)
		}
		return all, nil
	})
	steps.Step("prepared over a changed table", func() (any, error) {
		if _, err := conn.Exec(ctx, "CREATE TABLE changing (id int, a text); INSERT INTO changing VALUES (1, 'x')"); err != nil {
			return nil, err
		}
		before, err := query(conn, "SELECT * FROM changing")
		if err != nil {
			return nil, err
		}
		if _, err := conn.Exec(ctx, "ALTER TABLE changing ADD COLUMN b int DEFAULT 2"); err != nil {
			return nil, err
		}
		_, first := query(conn, "SELECT * FROM changing")
		after, err := query(conn, "SELECT * FROM changing")
		if err != nil {
			return nil, err
		}
		_, err = conn.Exec(ctx, "DROP TABLE changing")
		return []any{before, steps.State(first), after}, err
	})
}

func batches(conn *pgx.Conn) {
	steps.Step("batch", func() (any, error) {
		batch := &pgx.Batch{}
		for i := range 50 {
			batch.Queue("INSERT INTO orders (customer_id, note) VALUES ($1, $2)", 3, fmt.Sprint("batch ", i))
		}
		batch.Queue("SELECT count(*) FROM orders WHERE note LIKE 'batch%'")
		batch.Queue("SELECT card FROM customers WHERE id = $1", 2)
		results := conn.SendBatch(ctx, batch)
		defer results.Close()
		for range 50 {
			if _, err := results.Exec(); err != nil {
				return nil, err
			}
		}
		var count int
		var card string
		if err := results.QueryRow().Scan(&count); err != nil {
			return nil, err
		}
		err := results.QueryRow().Scan(&card)
		return []any{count, card}, err
	})
	steps.Step("batch with an error", func() (any, error) {
		batch := &pgx.Batch{}
		batch.Queue("UPDATE orders SET note = 'lost' WHERE id = 3")
		batch.Queue("INSERT INTO orders (customer_id) VALUES (99)")
		batch.Queue("SELECT 1")
		err := conn.SendBatch(ctx, batch).Close()
		lost, _ := query(conn, "SELECT note FROM orders WHERE id = 3")
		return []any{steps.State(err), lost}, nil
	})
	steps.Step("batch pipeline", func() (any, error) {
		pipeline := conn.PgConn().StartPipeline(ctx)
		pipeline.SendQueryParams("SELECT name FROM customers WHERE id = $1", [][]byte{[]byte("1")}, nil, nil, nil)
		pipeline.SendQueryParams("SELECT nosuch FROM customers", nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return nil, err
		}
		pipeline.SendQueryParams("SELECT email FROM customers WHERE id = 2", nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return nil, err
		}
		var seen []any
		for {
			results, err := pipeline.GetResults()
			if err != nil {
				seen = append(seen, steps.State(err))
				continue
			}
			if results == nil {
				return seen, pipeline.Close()
			}
			switch results := results.(type) {
			case *pgconn.ResultReader:
				result := results.Read()
				seen = append(seen, string(bytes.Join(result.Rows[0], []byte(","))))
			case *pgconn.PipelineSync:
				seen = append(seen, "sync")
			}
			if len(seen) == 4 {
				return seen, pipeline.Close()
			}
		}
	})
	steps.Step("batch of statements", func() (any, error) {
		results, err := conn.PgConn().Exec(ctx, "SELECT 1; SELECT card FROM customers ORDER BY id; UPDATE orders SET note = 'two' WHERE id = 2").ReadAll()
		var tags []any
		for _, result := range results {
			tags = append(tags, []any{result.CommandTag.String(), fmt.Sprintf("%s", result.Rows)})
		}
		return tags, err
	})
}

func cursors(conn *pgx.Conn) {
	steps.Step("cursor left early", func() (any, error) {
		rows, err := conn.Query(ctx, "SELECT i FROM generate_series(1, 10000) AS i")
		if err != nil {
			return nil, err
		}
		rows.Next()
		rows.Close()
		return query(conn, "SELECT 1")
	})
	steps.Step("cursor in SQL", func() (any, error) {
		var all []any
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "DECLARE c CURSOR FOR SELECT id, card FROM customers ORDER BY id"); err != nil {
				return err
			}
			for range 2 {
				rows, err := query(tx, "FETCH 2 FROM c")
				if err != nil {
					return err
				}
				all = append(all, rows)
			}
			return nil
		})
		return all, err
	})
}

func copies(conn *pgx.Conn) {
	steps.Step("copy from rows", func() (any, error) {
		return conn.CopyFrom(ctx, pgx.Identifier{"orders"}, []string{"customer_id", "note", "placed"}, pgx.CopyFromSlice(20, func(i int) ([]any, error) {
			return []any{2, fmt.Sprint("copied ", i), time.Unix(int64(i), 0)}, nil
		}))
	})
	steps.Step("copy of masked columns", func() (any, error) {
		return conn.CopyFrom(ctx, pgx.Identifier{"public", "customers"}, []string{"name", "email", "card"}, pgx.CopyFromRows([][]any{{"Eve", "e***@example.com", "************5678"}}))
	})
	steps.Expect("copy of an unknown customer", func() error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"orders"}, []string{"customer_id"}, pgx.CopyFromRows([][]any{{99}}))
		return err
	})
	steps.Step("copy out", func() (any, error) {
		var out bytes.Buffer
		tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT id, email, card FROM customers ORDER BY id) TO STDOUT (FORMAT csv)")
		return []any{tag.String(), out.String()}, err
	})
	steps.Step("copy in", func() (any, error) {
		tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("2\tplain\n"), "COPY orders (customer_id, note) FROM STDIN")
		return tag.String(), err
	})
}

func failures(conn *pgx.Conn) {
	for _, failure := range [][2]string{
		{"unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)"},
		{"foreign key", "DELETE FROM customers WHERE id = 1"},
		{"check", "UPDATE products SET price = -1 WHERE id = 1"},
		{"not null", "INSERT INTO orders (customer_id) VALUES (NULL)"},
		{"syntax", "SELEC 1"},
		{"unknown table", "SELECT * FROM nosuch"},
		{"hidden column", "SELECT ssn FROM customers"},
		{"division", "SELECT 1 / 0"},
	} {
		steps.Expect("error "+failure[0], func() error {
			_, err := conn.Exec(ctx, failure[1])
			return err
		})
	}
	steps.Step("error fields", func() (any, error) {
		_, err := conn.Exec(ctx, "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)")
		var failure *pgconn.PgError
		errors.As(err, &failure)
		return []any{failure.ConstraintName, failure.TableName, failure.SchemaName, failure.Severity}, nil
	})
	steps.Step("error cancel", func() (any, error) {
		// By its own way: a deadline, then a cancel request.
		config, err := pgx.ParseConfig(steps.URL())
		if err != nil {
			return nil, err
		}
		one, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		defer one.Close(ctx)
		time.AfterFunc(200*time.Millisecond, func() { _ = one.PgConn().CancelRequest(ctx) })
		_, err = one.Exec(ctx, "SELECT pg_sleep(20)")
		return steps.State(err), nil
	})
}

func sessions(conn *pgx.Conn) {
	steps.Step("session notifications", func() (any, error) {
		if _, err := conn.Exec(ctx, "LISTEN news; NOTIFY news, 'hello'"); err != nil {
			return nil, err
		}
		heard, err := conn.WaitForNotification(ctx)
		if err != nil {
			return nil, err
		}
		return []any{heard.Channel, heard.Payload}, nil
	})
	steps.Step("session temporary table", func() (any, error) {
		if _, err := conn.Exec(ctx, "CREATE TEMP TABLE picked AS SELECT id, card FROM customers"); err != nil {
			return nil, err
		}
		return query(conn, "SELECT * FROM picked ORDER BY id")
	})
	steps.Step("session settings", func() (any, error) {
		if _, err := conn.Exec(ctx, "SELECT set_config('app.tenant', $1, false)", "7"); err != nil {
			return nil, err
		}
		return query(conn, "SELECT current_setting('app.tenant')")
	})
}

func modes() {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		steps.Step("prepared in mode "+mode.String(), func() (any, error) {
			config, err := pgx.ParseConfig(steps.URL())
			if err != nil {
				return nil, err
			}
			config.DefaultQueryExecMode = mode
			one, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return nil, err
			}
			defer one.Close(ctx)
			return query(one, "SELECT id, name, email, birth FROM customers WHERE id = $1 AND name <> $2", 2, "it's")
		})
	}
}

func pool() {
	config, err := pgxpool.ParseConfig(steps.URL())
	if err != nil {
		panic(err)
	}
	config.MaxConns = 2
	config.AfterRelease = func(conn *pgx.Conn) bool {
		_, err := conn.Exec(ctx, "DISCARD ALL")
		return err == nil
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	steps.Step("pool of two", func() (any, error) {
		found := make(chan int, 6)
		for i := range cap(found) {
			go func() {
				var twice int
				if err := pool.QueryRow(ctx, "SELECT $1::int * 2", i).Scan(&twice); err != nil {
					twice = -1
				}
				found <- twice
			}()
		}
		sum := 0
		for range cap(found) {
			sum += <-found
		}
		return sum, nil
	})
	steps.Step("pool reset", func() (any, error) {
		var path []any
		for range 2 {
			one, err := pool.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			rows, err := query(one, "SHOW search_path")
			if err != nil {
				return nil, err
			}
			path = append(path, rows)
			if _, err := one.Exec(ctx, "SET search_path TO pg_catalog"); err != nil {
				return nil, err
			}
			one.Release()
		}
		return path, nil
	})
}

func databaseSQL() {
	db, err := sql.Open("pgx", steps.URL())
	if err != nil {
		panic(err)
	}
	defer db.Close()
	steps.Step("read by database/sql", func() (any, error) {
		statement, err := db.Prepare("SELECT name, email FROM customers WHERE id = $1")
		if err != nil {
			return nil, err
		}
		defer statement.Close()
		var name, email string
		err = statement.QueryRow(1).Scan(&name, &email)
		return []any{name, email}, err
	})
	steps.Step("read at the end", func() (any, error) {
		conn, err := pgx.Connect(ctx, steps.URL())
		if err != nil {
			return nil, err
		}
		defer conn.Close(ctx)
		return query(conn, "SELECT id, name, email, card, birth, credit FROM customers ORDER BY id")
	})
}
