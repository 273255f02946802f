-- Subqueries, common table expressions, LATERAL, VALUES.

-- leak works: a subquery in FROM
SELECT x FROM (SELECT card AS x FROM customers) s;

-- leak works: three of them
SELECT z FROM (SELECT y AS z FROM (SELECT x AS y FROM (SELECT card AS x FROM customers) a) b) c;

-- leak works: a scalar subquery
SELECT (SELECT card FROM customers WHERE id = 1);

-- leak works: a scalar subquery in a subquery
SELECT (SELECT (SELECT card FROM customers WHERE id = 1));

-- leak works: a correlated one
SELECT (SELECT c.card) FROM customers c;

-- leak works: correlated over two levels
SELECT (SELECT (SELECT c.card || c.note)) FROM customers c;

-- leak works: LATERAL
SELECT l.x FROM customers c, LATERAL (SELECT c.card AS x) l;

-- leak works: LEFT JOIN LATERAL
SELECT l.x FROM customers c LEFT JOIN LATERAL (SELECT d.card AS x FROM customers d WHERE d.id = c.id LIMIT 1) l ON true;

-- leak works: a VALUES list with a subquery
SELECT * FROM (VALUES (1, (SELECT card FROM customers WHERE id = 1))) v(a, b);

-- leak works: VALUES as a statement
VALUES ((SELECT card FROM customers WHERE id = 2));

-- leak works: LATERAL VALUES
SELECT v.x FROM customers c, LATERAL (VALUES (c.card), (c.note)) v(x);

-- leak works: a CTE
WITH x AS (SELECT card FROM customers) SELECT * FROM x;

-- leak works: a CTE with column names
WITH x (a, b) AS (SELECT id, card FROM customers) SELECT b FROM x;

-- leak works: a materialized CTE
WITH x AS MATERIALIZED (SELECT * FROM customers) SELECT card FROM x;

-- leak works: a CTE of a CTE
WITH x AS (SELECT card FROM customers), y AS (SELECT card FROM x) SELECT * FROM y;

-- leak works: a CTE that is named as the table
WITH customers AS (SELECT card FROM customers) SELECT * FROM customers;

-- leak works: a CTE that is named as the table, in a subquery
SELECT * FROM (WITH customers AS (SELECT card AS k FROM public.customers) SELECT k FROM customers) s;

-- leak works: a recursive CTE
WITH RECURSIVE r AS (SELECT id, card FROM customers WHERE id = 1 UNION ALL SELECT c.id, c.card FROM customers c JOIN r ON c.id = r.id + 1) SELECT card FROM r;

-- leak works: a recursive CTE with SEARCH
WITH RECURSIVE r AS (SELECT id, card FROM customers WHERE id = 1 UNION ALL SELECT c.id, c.card FROM customers c JOIN r ON c.id = r.id + 1) SEARCH DEPTH FIRST BY card SET o SELECT o FROM r;

-- leak works: a CTE that is not the outermost's
WITH x AS (WITH y AS (SELECT card FROM customers) SELECT * FROM y) SELECT * FROM x;

-- leak works: an outer CTE does not hide the table from a sibling
WITH a AS (SELECT card FROM customers), customers AS (SELECT 1) SELECT * FROM a;

-- same works: IN
SELECT id FROM customers WHERE note IN (SELECT note FROM customers WHERE id = 1) ORDER BY id;

-- same works: EXISTS
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM customers d WHERE d.id = c.id AND d.card LIKE 'CARD%');

-- same works: ANY
SELECT id FROM customers WHERE 'NOTEZQX83-1' = ANY (SELECT note FROM customers);

-- same works: ALL
SELECT id FROM customers WHERE note >= ALL (SELECT note FROM customers) ORDER BY id;

-- leak works: a subquery in LIMIT
SELECT card FROM customers ORDER BY id LIMIT (SELECT count(*) FROM customers);

-- leak works: ROWS FROM
SELECT r.* FROM customers c, ROWS FROM (regexp_split_to_table(c.card, '-'), generate_series(1, 2)) r;

-- leak works: WITH ORDINALITY
SELECT t, o FROM customers, unnest(tags) WITH ORDINALITY u(t, o);

-- leak works: unnest of an aggregated array
SELECT unnest(array_agg(card)) FROM customers;

-- leak works: generate_series with a masked end
SELECT generate_series(salary, salary) FROM customers;
