// lib/pq by database/sql: statements, arrays, COPY by pq.CopyIn, LISTEN.
package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"clients/steps"

	"github.com/lib/pq"
)

var ctx = context.Background()

type querier interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
}

func query(from querier, query string, arguments ...any) (any, error) {
	rows, err := from.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	all := [][]any{}
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

func changed(result sql.Result, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return result.RowsAffected()
}

func main() {
	steps.Versions("github.com/lib/pq")
	db, err := sql.Open("postgres", steps.URL())
	if err != nil {
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	steps.Step("connect", func() (any, error) { return "connected", db.Ping() })
	steps.Step("introspect column types", func() (any, error) {
		rows, err := db.Query("SELECT * FROM customers LIMIT 0")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		types, err := rows.ColumnTypes()
		var all []any
		for _, column := range types {
			length, _ := column.Length()
			precision, scale, _ := column.DecimalSize()
			all = append(all, []any{column.Name(), column.DatabaseTypeName(), length, precision, scale})
		}
		return all, err
	})
	steps.Step("read all", func() (any, error) { return query(db, "SELECT * FROM customers ORDER BY id") })
	steps.Step("read products", func() (any, error) { return query(db, "SELECT * FROM products ORDER BY id") })
	steps.Step("read by key", func() (any, error) { return query(db, "SELECT * FROM customers WHERE id = $1", 2) })
	steps.Step("read any of", func() (any, error) {
		return query(db, "SELECT id, card FROM customers WHERE id = ANY ($1) ORDER BY id", pq.Array([]int{1, 3}))
	})
	steps.Step("read by a mask", func() (any, error) { return query(db, "SELECT id FROM customers WHERE email = $1", "m***@example.org") })
	steps.Step("write insert", func() (any, error) {
		return query(db, "INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING id, name, email",
			"Dan", "q***@example.com", "************1234", time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), "2000")
	})
	steps.Step("write update", func() (any, error) {
		return changed(db.Exec("UPDATE customers SET name = $2, card = $3 WHERE id = $1", 1, "Ada L", "**********0001"))
	})
	steps.Step("write types", func() (any, error) {
		return query(db, "INSERT INTO products (sku, title, price, tags, attributes, picture) VALUES ('P-1', 'Pen', 1.2, $1, $2, $3) RETURNING tags, attributes, picture",
			pq.Array([]string{"a", `b "c"`}), `{"ink": ["blue"]}`, []byte{0, 1, 255})
	})
	steps.Step("write delete", func() (any, error) { return changed(db.Exec("DELETE FROM products WHERE sku = $1", "P-1")) })
	steps.Step("prepared", func() (any, error) {
		statement, err := db.Prepare("SELECT name, email FROM customers WHERE id = $1")
		if err != nil {
			return nil, err
		}
		defer statement.Close()
		var seen []any
		for id := range 3 {
			var name, email string
			if err := statement.QueryRow(id+1).Scan(&name, &email); err != nil {
				return nil, err
			}
			seen = append(seen, []any{name, email})
		}
		return seen, nil
	})
	steps.Step("batch of results", func() (any, error) {
		rows, err := db.Query("SELECT 1; SELECT card FROM customers ORDER BY id")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var seen []any
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				var value string
				if err := rows.Scan(&value); err != nil {
					return nil, err
				}
				seen = append(seen, value)
			}
		}
		return seen, rows.Err()
	})
	transactions(db)
	copies(db)
	for _, failure := range [][2]string{
		{"unique", "INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)"},
		{"foreign key", "DELETE FROM customers WHERE id = 1"},
		{"check", "UPDATE products SET price = -1 WHERE id = 1"},
		{"syntax", "SELEC 1"},
		{"unknown table", "SELECT * FROM nosuch"},
		{"hidden column", "SELECT ssn FROM customers"},
	} {
		steps.Expect("error "+failure[0], func() error {
			_, err := db.Exec(failure[1])
			return err
		})
	}
	steps.Step("error fields", func() (any, error) {
		_, err := db.Exec("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)")
		var failure *pq.Error
		errors.As(err, &failure)
		return []any{failure.Constraint, failure.Table, failure.Schema, failure.Severity}, nil
	})
	steps.Step("error cancel", func() (any, error) {
		// The driver sends a cancel request when the deadline is over.
		within, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		defer stop()
		_, err := db.ExecContext(within, "SELECT pg_sleep(20)")
		return []any{steps.State(err), db.Ping() == nil}, nil
	})
	steps.Step("session notifications", func() (any, error) {
		listener := pq.NewListener(steps.URL(), time.Second, time.Second, nil)
		defer listener.Close()
		if err := listener.Listen("news"); err != nil {
			return nil, err
		}
		if _, err := db.Exec("SELECT pg_notify('news', $1)", "hello"); err != nil {
			return nil, err
		}
		for heard := range listener.Notify {
			if heard != nil {
				return []any{heard.Channel, heard.Extra}, nil
			}
		}
		return nil, errors.New("closed")
	})
	steps.Step("pool reset", func() (any, error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		for _, text := range []string{"SET search_path TO pg_catalog", "DISCARD ALL"} {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return nil, err
			}
		}
		return query(conn, "SHOW search_path")
	})
	steps.Step("read at the end", func() (any, error) {
		return query(db, "SELECT id, name, email, card, birth, credit FROM customers ORDER BY id")
	})
}

func transactions(db *sql.DB) {
	steps.Step("transaction commit", func() (any, error) {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec("UPDATE orders SET status = 'sent' WHERE id = $1", 1); err != nil {
			return nil, err
		}
		if err := tx.Commit(); err != nil {
			return nil, err
		}
		return query(db, "SELECT status FROM orders WHERE id = 1")
	})
	steps.Step("transaction rollback", func() (any, error) {
		tx, err := db.Begin()
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec("DELETE FROM order_items"); err != nil {
			return nil, err
		}
		if err := tx.Rollback(); err != nil {
			return nil, err
		}
		return query(db, "SELECT count(*) FROM order_items")
	})
	steps.Step("transaction savepoint", func() (any, error) {
		tx, err := db.Begin()
		if err != nil {
			return nil, err
		}
		defer tx.Rollback()
		_, _ = tx.Exec("SAVEPOINT before")
		_, first := tx.Exec("INSERT INTO order_items VALUES (99, 1, 1, 1)")
		_, second := tx.Exec("SELECT 1")
		if _, err := tx.Exec("ROLLBACK TO before"); err != nil {
			return nil, err
		}
		items, err := query(tx, "SELECT * FROM order_items ORDER BY 1, 2")
		return []any{steps.State(first), steps.State(second), items, tx.Commit() == nil}, err
	})
	steps.Expect("transaction read only", func() error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.Exec("DELETE FROM orders")
		return err
	})
}

func copies(db *sql.DB) {
	copied := func(columns []string, rows ...[]any) (any, error) {
		tx, err := db.Begin()
		if err != nil {
			return nil, err
		}
		defer tx.Rollback()
		statement, err := tx.Prepare(pq.CopyIn("orders", columns...))
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if _, err := statement.Exec(row...); err != nil {
				return nil, err
			}
		}
		count, err := changed(statement.Exec())
		if err != nil {
			return nil, err
		}
		return count, errors.Join(statement.Close(), tx.Commit())
	}
	steps.Step("copy in", func() (any, error) {
		return copied([]string{"customer_id", "note"}, []any{2, "a\nb"}, []any{2, nil}, []any{3, "last"})
	})
	steps.Expect("copy of an unknown customer", func() error {
		_, err := copied([]string{"customer_id"}, []any{99})
		return err
	})
}
