-- PREPARE and EXECUTE.

-- leak works: EXECUTE
PREPARE p AS SELECT card FROM customers;
EXECUTE p;

-- leak works: with a parameter
PREPARE p (int) AS SELECT * FROM customers WHERE id = $1;
EXECUTE p (1);

-- leak works: the parameter is a subquery's
PREPARE p (text) AS SELECT $1;
EXECUTE p ((SELECT 'x'));
SELECT card FROM customers;

-- leak works: run again
PREPARE p AS SELECT card FROM customers;
EXECUTE p;
EXECUTE p;
DEALLOCATE p;

-- leak works: prepared under another search_path
SET search_path = other, public;
PREPARE p AS SELECT card FROM public.customers;
SET search_path = public;
EXECUTE p;

-- leak works: the name means another table later
SET search_path = other, public;
PREPARE p AS SELECT card FROM customers;
EXECUTE p;
SET search_path = public;
EXECUTE p;

-- leak works: prepared over a temporary table that is gone
CREATE TEMP TABLE customers AS SELECT 1 AS id, 'x'::text AS card;
PREPARE p AS SELECT card FROM customers;
EXECUTE p;
DROP TABLE pg_temp.customers;
EXECUTE p;

-- leak works: a temporary table of that name made later
PREPARE p AS SELECT card FROM customers;
EXECUTE p;
CREATE TEMP TABLE customers AS SELECT 1 AS id, 'x'::text AS card;
EXECUTE p;

-- leak works: EXECUTE into a table
PREPARE p AS SELECT card FROM customers;
CREATE TEMP TABLE t AS EXECUTE p;
SELECT * FROM t;

-- leak works: EXPLAIN EXECUTE, then EXECUTE
PREPARE p (int) AS SELECT card FROM customers WHERE id = $1;
EXPLAIN EXECUTE p (1);
EXECUTE p (1);

-- leak works: a prepared write that returns
PREPARE p AS UPDATE customers SET visits = visits WHERE id = 1 RETURNING card;
EXECUTE p;

-- leak works: a prepared COPY target
PREPARE p AS SELECT note FROM customers;
COPY (SELECT note FROM customers) TO STDOUT;

-- leak works: after DISCARD
PREPARE p AS SELECT card FROM customers;
EXECUTE p;
DISCARD ALL;
PREPARE p AS SELECT note FROM customers;
EXECUTE p;

-- leak works: its text in pg_prepared_statements
PREPARE p AS SELECT card FROM customers;
SELECT name, statement FROM pg_prepared_statements;
EXECUTE p;

-- leak works: a custom plan holds no constant
PREPARE p (int) AS SELECT card FROM customers WHERE id = $1;
EXECUTE p (1);
EXECUTE p (2);
EXECUTE p (3);
EXECUTE p (1);
EXECUTE p (2);
EXECUTE p (3);

-- same works: a parameter has the type of its first place in the condition of a write
PREPARE p AS UPDATE orders SET amount = 1 WHERE abs(id) < $1 AND $1::text <> region RETURNING id;
EXECUTE p (7);

-- works: a parameter has the type of its first place in a query
PREPARE p AS SELECT $1::bigint AS n, id FROM orders WHERE abs(id) >= 0 AND id = $1;
EXECUTE p (5000000000);
PREPARE q AS SELECT id FROM orders WHERE $1::bigint > 7 AND abs(id) >= 0 AND id = $1;
EXECUTE q (5000000000);
