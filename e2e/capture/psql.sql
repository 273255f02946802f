\d
\dS customers
\d customers
\d+ customers
\d orders
\d+ orders
\d measurements
\d+ measurements
\d measurements_2024
\d base_things
\d special_things
\d+ customer_totals
\d+ order_items
\d "Mixed Case"
\d ticket_numbers
\d customers_lower
\d archive.*
\d address
\dt
\dt+
\dt *.*
\dti
\di+
\dv+
\dm+
\ds+
\df
\df+ add_vat
\dfa
\dft
\da
\dT
\dT+
\dD
\dn
\dn+
\du
\dg+
\l
\dp
\z customers
\ddp
\dx
\dx+ plpgsql
\dC
\dc
\do +
\dO
\dL
\dF
\dFd
\dFp
\dFt
\db
\dE
\des
\det
\dew
\dy
\dRp
\dRs
\dP
\dPt+
\dX
\dA
\dAc btree
\dAf btree
\dAo btree integer_ops
\dAp btree integer_ops
\dd
\dconfig work_mem
\drds
\sf add_vat
\sf+ touch
\sv customer_totals
\conninfo
\encoding
\x
SELECT * FROM customers;
\x
SELECT id, name FROM customers \gdesc
SELECT 1 AS a, 2 AS b \gx
SELECT 'SELECT ' || i FROM generate_series(1, 2) i \gexec
SELECT name, mood, balance FROM customers ORDER BY name \crosstabview
\copy customers (id, name, tags) TO /dev/null
\copy (SELECT * FROM orders ORDER BY id) TO /dev/null CSV HEADER
BEGIN;
SAVEPOINT a;
INSERT INTO orders (customer_id, item) VALUES (3, 'pear') RETURNING *;
SELECT 1 / 0;
ROLLBACK TO a;
UPDATE orders SET amount = amount + 1 WHERE customer_id = 1;
DELETE FROM orders WHERE item = 'bread';
ROLLBACK;
SELECT nosuch FROM customers;
SELECT * FROM nosuch;
SELEC 1;
INSERT INTO customers (name, email) VALUES ('Dup', 'ada@example.com');
INSERT INTO orders (customer_id, item) VALUES (99, 'x');
UPDATE customers SET balance = -5000 WHERE id = 1;
SET search_path = archive, public;
SELECT count(*) FROM orders;
SHOW search_path;
RESET search_path;
SHOW server_version;
SET statement_timeout = '25s';
SHOW statement_timeout;
SET TimeZone = 'Europe/Berlin';
SELECT joined FROM customers ORDER BY id;
SET DateStyle = 'German';
SELECT born FROM customers ORDER BY id;
RESET ALL;
EXPLAIN (COSTS off) SELECT * FROM customers WHERE id = 1;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT c.name FROM customers c JOIN orders o ON o.customer_id = c.id;
VALUES (1, 'a'), (2, 'b');
TABLE base_things;
SELECT c, to_jsonb(c) FROM customers c ORDER BY c.id;
SELECT (home).town, mood::text, tags[1], profile -> 'a' FROM customers ORDER BY id;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n;
SELECT item, sum(amount) OVER (PARTITION BY customer_id ORDER BY id) FROM orders;
SELECT customer_id, item, count(*) FROM orders GROUP BY ROLLUP (customer_id, item) ORDER BY 1, 2;
SELECT * FROM customers NATURAL JOIN (VALUES (1), (2)) v (id) ORDER BY id;
SELECT DISTINCT ON (customer_id) * FROM orders ORDER BY customer_id, amount DESC;
INSERT INTO customers AS c (id, name) VALUES (1, 'Ada B') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE c.id = 1 RETURNING id, name, shout;
MERGE INTO orders o USING (VALUES (1, 'apple'), (3, 'fig')) v (c, i) ON o.customer_id = v.c AND o.item = v.i WHEN MATCHED THEN UPDATE SET amount = 5 WHEN NOT MATCHED THEN INSERT (customer_id, item) VALUES (v.c, v.i);
PREPARE q (int) AS SELECT name FROM customers WHERE id = $1;
EXECUTE q (2);
DEALLOCATE q;
BEGIN; DECLARE k CURSOR FOR SELECT * FROM orders ORDER BY id; FETCH 2 FROM k; MOVE 1 FROM k; FETCH ALL FROM k; CLOSE k; COMMIT;
CREATE TEMP TABLE tmp AS SELECT * FROM orders;
SELECT count(*) FROM tmp;
CREATE INDEX ON tmp (item);
ANALYZE tmp;
TRUNCATE tmp;
DROP TABLE tmp;
CREATE TABLE made (id int PRIMARY KEY, t text DEFAULT 'x');
ALTER TABLE made ADD COLUMN n numeric;
CREATE INDEX made_t ON made (t);
COMMENT ON TABLE made IS 'made here';
INSERT INTO made SELECT i FROM generate_series(1, 3) i RETURNING *;
\d made
DROP TABLE made;
SELECT nextval('ticket_numbers'), currval('ticket_numbers');
SELECT setval('ticket_numbers', 200);
SELECT add_vat(10), add_vat(10, 0.1);
LISTEN news;
NOTIFY news, 'hello';
SELECT 1;
UNLISTEN *;
BEGIN; LOCK TABLE orders IN SHARE MODE; COMMIT;
SELECT pg_advisory_lock(7), pg_advisory_unlock(7);
SELECT * FROM customers WHERE id = 1 FOR UPDATE SKIP LOCKED;
REFRESH MATERIALIZED VIEW CONCURRENTLY order_items;
VACUUM orders;
DISCARD ALL;
SELECT version() IS NOT NULL, current_user, session_user IS NOT NULL, current_database(), current_schema();
SELECT generate_series(1, 3), unnest(ARRAY['a', 'b']);
SELECT E'tab\t', U&'\0041', $q$dollar$q$, B'101', X'1F', INTERVAL '1 day', DATE '2024-01-01', 1e3, NULL;
SELECT CASE WHEN true THEN 'y' END, COALESCE(NULL, 1), NULLIF(1, 1), GREATEST(1, 2), 1 BETWEEN 0 AND 2, 'a' LIKE 'a%', 'a' ~ 'A', ROW(1, 2) < ROW(1, 3);
SELECT extract(year FROM born), date_trunc('month', joined AT TIME ZONE 'UTC'), to_char(balance, '999.99') FROM customers ORDER BY id;
SELECT string_agg(name, ',' ORDER BY name) FILTER (WHERE balance > 0), array_agg(id), jsonb_object_agg(id, name), percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM customers;
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, ordinal_position;
SELECT * FROM information_schema.table_constraints WHERE table_schema = 'public' ORDER BY constraint_name;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1;
SELECT relname, reltuples FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1;
