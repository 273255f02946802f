-- Rows outside the filter do not exist.

-- leak works: everything
SELECT * FROM orders;

-- leak works: a row by its key
SELECT * FROM orders WHERE id IN (1, 2);

-- leak works: OR does not widen it
SELECT * FROM orders WHERE region = 'eu' OR true;

-- leak works: the other region
SELECT id, item, region FROM orders WHERE region = 'us' OR id = 4;

-- leak works: a join
SELECT c.name, o.item FROM customers c JOIN orders o ON o.customer_id = c.id;

-- leak works: an outer join
SELECT c.name, o.item FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.region = 'us';

-- leak works: a full join
SELECT o.item FROM orders o FULL JOIN customers c ON false;

-- leak works: a subquery
SELECT c.id, (SELECT string_agg(o.item, ',') FROM orders o WHERE o.customer_id = c.id) FROM customers c;

-- same works: EXISTS
SELECT c.id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 100) ORDER BY 1;

-- same works: count
SELECT count(*), sum(amount), max(amount) FROM orders;

-- same works: grouped
SELECT region, count(*) FROM orders GROUP BY region ORDER BY 1;

-- same works: a window
SELECT id, sum(amount) OVER (ORDER BY id) FROM orders ORDER BY id;

-- leak works: the row
SELECT o FROM orders o;

-- leak works: JSON
SELECT json_agg(o) FROM orders o;

-- leak works: ONLY
SELECT * FROM ONLY orders;

-- leak works: a sample
SELECT item FROM orders TABLESAMPLE SYSTEM (100);

-- leak works: COPY of the query
COPY (SELECT * FROM orders) TO STDOUT;

-- leak works: COPY of the table
COPY orders TO STDOUT;

-- leak works: COPY of columns
COPY orders (id, item) TO STDOUT WITH (FORMAT csv, HEADER);

-- leak works: a lock
SELECT * FROM orders FOR UPDATE;

-- leak works: a CTE
WITH o AS (SELECT * FROM orders) SELECT item FROM o;

-- leak works: a cursor
BEGIN;
DECLARE k CURSOR FOR SELECT item FROM orders;
FETCH ALL FROM k;
COMMIT;

-- leak works: UPDATE reaches visible rows only
BEGIN;
UPDATE orders SET amount = amount + 1 RETURNING *;
ROLLBACK;

-- leak works: UPDATE of a key outside
BEGIN;
UPDATE orders SET amount = amount WHERE id = 2 RETURNING item;
ROLLBACK;

-- leak works: DELETE reaches visible rows only
BEGIN;
DELETE FROM orders RETURNING *;
ROLLBACK;

-- leak works: DELETE USING
BEGIN;
DELETE FROM orders o USING customers c WHERE c.id = o.customer_id RETURNING o.item;
ROLLBACK;

-- leak works: UPDATE FROM
BEGIN;
UPDATE orders o SET amount = 0 FROM customers c WHERE c.id = o.customer_id RETURNING o.item, o.region;
ROLLBACK;

-- leak works: a copy into a temporary table
CREATE TEMP TABLE t AS SELECT * FROM orders;
SELECT * FROM t;

-- leak: ON CONFLICT with a row outside
BEGIN;
INSERT INTO orders VALUES (2, 1, 'eu', 'guess', 1) ON CONFLICT (id) DO UPDATE SET amount = 0 RETURNING item;
SELECT item FROM orders;
ROLLBACK;

-- leak: a row moved into the filter
BEGIN;
UPDATE orders SET region = 'eu' WHERE id = 2 RETURNING *;
ROLLBACK;

-- leak: its partition-less child, by tableoid
SELECT tableoid, item FROM orders;

-- leak: system columns
SELECT ctid, item FROM orders WHERE ctid = '(0,2)';

-- refused: a computed value outside the filter
INSERT INTO orders VALUES (100, 1, lower('US'), 'x', 1);

-- refused: one of several rows is computed outside
INSERT INTO orders VALUES (100, 1, lower('EU'), 'x', 1), (101, 1, lower('US'), 'x', 1);

-- refused: a value from a subquery outside the filter
INSERT INTO orders VALUES (100, 1, (SELECT max(region) FROM customers), 'x', 1);

-- refused: no value from a subquery
INSERT INTO parcels (id, stage) VALUES (100, (SELECT p.stage FROM parcels p WHERE false));

-- refused: a set of no values
INSERT INTO parcels (id, stage) VALUES (100, unnest('{}'::text[]));

-- refused: a value that is another at each call
INSERT INTO orders VALUES (100, 1, CASE WHEN random() < 2 THEN 'eu' ELSE 'us' END, 'x', 1);

-- refused: an UPDATE with a value that is another at each call
UPDATE orders SET region = CASE WHEN random() < 2 THEN 'eu' ELSE 'us' END;

-- refused: a setting that changes between the check and the row
BEGIN;
SET LOCAL app.region = 'us';
INSERT INTO orders VALUES (100, 1, current_setting('app.region'), set_config('app.region', 'eu', true), 1);
ROLLBACK;

-- refused: an UPDATE by a CASE to outside
UPDATE orders SET region = CASE WHEN id = 5 THEN 'us' ELSE region END;

-- refused: an UPDATE by a name of the proxy's own
UPDATE orders SET region = lower(postern_new.c0) FROM (VALUES ('US')) postern_new (c0) WHERE id = 5;

-- refused: DEFAULT outside of the filter
INSERT INTO orders (id, customer_id, region, item, amount) VALUES (100, 1, DEFAULT, 'x', 1);

-- refused: DEFAULT in one of several rows
INSERT INTO orders VALUES (100, 1, 'us', 'x', 1), (101, 1, DEFAULT, 'x', 1);

-- refused: an UPDATE to DEFAULT outside of the filter
UPDATE orders SET region = DEFAULT WHERE id = 1;

-- refused: DO UPDATE to DEFAULT outside of the filter
INSERT INTO orders VALUES (1, 1, 'eu', 'x', 1) ON CONFLICT (id) DO UPDATE SET region = DEFAULT;
