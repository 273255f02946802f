-- Views and materialized views over masked and filtered relations.

-- leak works: a view
SELECT * FROM customer_view;

-- leak works: a column of a view
SELECT email, card FROM customer_view;

-- leak: a view with expressions
SELECT * FROM customer_shout;

-- leak: an expression of two columns
SELECT "both" FROM customer_shout;

-- leak works: a view of a view
SELECT c FROM customer_nested;

-- leak: a view with aggregates
SELECT * FROM customer_stats;

-- leak: a view of everything
SELECT * FROM customer_star;

-- leak: the hidden column of a view
SELECT ssn FROM customer_star;

-- leak: the row of a view
SELECT v FROM customer_view v;

-- leak: JSON of a view
SELECT to_jsonb(v) FROM customer_shout v;

-- leak: a materialized view
SELECT * FROM customer_cache;

-- leak: the hidden column of a materialized view
SELECT ssn FROM customer_cache;

-- leak: a materialized view's row
SELECT row_to_json(m) FROM customer_cache m;

-- leak: a view over a filtered relation
SELECT * FROM order_view;

-- leak: an aggregate over a filtered relation
SELECT * FROM order_totals;

-- leak: a materialized view of a filtered relation
SELECT * FROM order_cache;

-- leak: a view over an inheritance parent
SELECT phone FROM people_view;

-- leak works: views joined
SELECT v.card FROM customer_view v JOIN customer_nested n ON n.id = v.id;

-- leak: COPY of a view by a query
COPY (SELECT * FROM customer_view) TO STDOUT;

-- leak: a predicate over a view
SELECT * FROM customer_view WHERE card IS NOT NULL ORDER BY card;

-- leak: a write through a view
UPDATE customer_view SET name = card WHERE id = 1 RETURNING *;

-- leak: a delete through a view
DELETE FROM customer_view WHERE id = 4 AND false RETURNING *;
SELECT card FROM customer_view WHERE id = 4;

-- leak: a view made anew over it
CREATE VIEW scratch.v AS SELECT card FROM customers;
SELECT * FROM scratch.v;

-- leak: a temporary view
CREATE TEMP VIEW tv AS SELECT card FROM customers;
SELECT * FROM tv;

-- leak: a materialized view made anew
CREATE MATERIALIZED VIEW scratch.m AS SELECT card FROM customers;
SELECT * FROM scratch.m;

-- leak: refresh, then read
REFRESH MATERIALIZED VIEW customer_cache;
SELECT card FROM customer_cache;
