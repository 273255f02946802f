-- Tables that the session makes.

-- leak works: CREATE TEMP TABLE AS
CREATE TEMP TABLE t AS SELECT * FROM customers;
SELECT * FROM t;

-- leak works: SELECT INTO TEMP
SELECT card AS x INTO TEMP t FROM customers;
SELECT x FROM t;

-- leak works: CREATE TABLE AS
CREATE TABLE scratch.t AS SELECT card, note FROM customers;
SELECT * FROM scratch.t;

-- leak works: SELECT INTO
SELECT card INTO scratch.t FROM customers;
TABLE scratch.t;

-- leak works: CREATE TABLE AS TABLE
CREATE TEMP TABLE t AS TABLE customers;
SELECT card FROM t;

-- leak works: CREATE TABLE AS with names
CREATE TEMP TABLE t (a, b) AS SELECT id, card FROM customers;
SELECT b FROM t;

-- leak works: INSERT into a temporary table
CREATE TEMP TABLE t (x text);
INSERT INTO t SELECT card FROM customers RETURNING x;

-- leak: rows as composites in a temporary table
CREATE TEMP TABLE t AS SELECT c FROM customers c;
SELECT (c).card FROM t;

-- leak works: COPY of a temporary table
CREATE TEMP TABLE t AS SELECT card FROM customers;
COPY t TO STDOUT;

-- leak works: an array in a temporary table
CREATE TEMP TABLE t AS SELECT array_agg(card) a FROM customers;
SELECT unnest(a) FROM t;

-- leak works: UPDATE of a temporary table from it
CREATE TEMP TABLE t AS SELECT id, ''::text AS x FROM customers;
UPDATE t SET x = c.card FROM customers c WHERE c.id = t.id RETURNING t.x;

-- leak works: within a transaction that is rolled back to a savepoint
BEGIN;
SAVEPOINT s;
CREATE TEMP TABLE customers (card text);
ROLLBACK TO s;
SELECT card FROM customers;
COMMIT;

-- leak works: ON COMMIT DROP
BEGIN;
CREATE TEMP TABLE customers ON COMMIT DROP AS SELECT 'x'::text AS card;
SELECT card FROM customers;
COMMIT;
SELECT card FROM customers;

-- leak works: a temporary table of the same name, then the real one
CREATE TEMP TABLE customers (card text);
SELECT card FROM customers;
SELECT card FROM public.customers;

-- leak works: IF NOT EXISTS
CREATE TEMP TABLE IF NOT EXISTS t AS SELECT secret, doc FROM customers;
SELECT * FROM t;

-- leak: a default that reads it
CREATE TEMP TABLE t (id int, x text DEFAULT leak_plpgsql(1));
INSERT INTO t (id) VALUES (1) RETURNING x;

-- leak works: WITH NO DATA, then filled
CREATE TEMP TABLE t AS SELECT card FROM customers WITH NO DATA;
INSERT INTO t SELECT card FROM customers;
SELECT * FROM t;

-- leak works: made and read in one message
CREATE TEMP TABLE t AS SELECT id, card FROM customers; INSERT INTO t VALUES (9, 'x'); SELECT * FROM t; DROP TABLE t;

-- leak works: a table made and read in one message
BEGIN; CREATE TABLE scratch.t (id int PRIMARY KEY, v text); INSERT INTO scratch.t SELECT id, card FROM customers; SELECT * FROM scratch.t; COMMIT;

-- leak works: a temporary table of that name comes and goes in one message
CREATE TEMP TABLE customers (id int); SELECT * FROM customers; DROP TABLE customers; SELECT card FROM customers;

-- leak works: a temporary table of that name is rolled back in one message
BEGIN; CREATE TEMP TABLE customers (card text); ROLLBACK; SELECT card FROM customers;

-- leak works: made unless it is there, in one message
CREATE TABLE IF NOT EXISTS public.customers (id int); SELECT card FROM public.customers;
CREATE TABLE IF NOT EXISTS scratch.t (id int); INSERT INTO scratch.t VALUES (1); SELECT * FROM scratch.t;

-- leak works: a view made over a plain table in one message
CREATE TEMP TABLE t (a text); INSERT INTO t SELECT card FROM customers; CREATE TEMP VIEW v AS SELECT a FROM t; SELECT * FROM v;
