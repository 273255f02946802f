-- Where a masked relation stands, everything that a table can do still works, and answers as a table that holds the
-- masks does: rows, names, types and order.

-- table: GROUP BY the key, with other columns selected
SELECT id, card, note, count(*) FROM customers GROUP BY id ORDER BY id;

-- table: GROUP BY the key by its alias
SELECT c.id, c.card, upper(c.note), max(c.visits) FROM customers c GROUP BY c.id ORDER BY c.id;

-- table: GROUP BY the key by its place, with HAVING and ORDER BY on others
SELECT id, name FROM customers GROUP BY 1 HAVING length(card) > 0 ORDER BY card, 1;

-- table: GROUP BY the key of one side of a join
SELECT c.id, c.card, sum(o.amount) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY 1;

-- table: GROUP BY the keys of both sides
SELECT c.id, c.card, o.item FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.id, o.id ORDER BY 1, 3;

-- table: GROUP BY the key of a filtered relation
SELECT id, item, amount FROM orders GROUP BY id ORDER BY id;

-- table: GROUP BY the key with the whole row selected
SELECT c.id, c.name, (c).card FROM customers c GROUP BY c.id, c.name, c ORDER BY 1;

-- table: GROUP BY the key in a subquery and a CTE
WITH x AS (SELECT id, card FROM customers GROUP BY id) SELECT (SELECT max(s.note) FROM (SELECT id, note FROM customers GROUP BY id) s), x.card FROM x ORDER BY 2;

-- table: GROUPING SETS and ROLLUP
SELECT region, label, count(*), grouping(region) FROM customers GROUP BY ROLLUP (region, label) ORDER BY 1, 2;

-- table: DISTINCT ON with an order
SELECT DISTINCT ON (region) region, card FROM customers ORDER BY region, id DESC;

-- table: three-part names everywhere
SELECT public.customers.id, public.customers.card FROM public.customers WHERE public.customers.visits > 1 GROUP BY public.customers.id, public.customers.card HAVING count(public.customers.*) > 0 ORDER BY public.customers.id;

-- table: three-part names in a join of two schemas with one name, which an alias tells apart
SELECT public.customers.card, o.card FROM public.customers JOIN other.customers o ON o.id = public.customers.id;

-- table: three-part names of a star
SELECT public.payments.* FROM public.payments ORDER BY public.payments.id;

-- table: three-part names in a correlated subquery
SELECT id FROM public.orders WHERE EXISTS (SELECT 1 FROM public.customers WHERE public.customers.id = public.orders.customer_id) ORDER BY 1;

-- table: system columns exist
SELECT ctid IS NOT NULL, xmin::text <> '', xmax IS NOT NULL, cmin IS NOT NULL, cmax IS NOT NULL, tableoid::regclass::text FROM customers ORDER BY id;

-- table: system columns beside a star do not join it
SELECT c.tableoid::regclass::text, c.*, c.xmin IS NULL FROM people c ORDER BY id;

-- table: system columns with a column alias list
SELECT a, d, tableoid::regclass::text FROM people AS p (a, b, d) ORDER BY a;

-- table: system columns with a column alias list that names some columns
SELECT a, phone, tableoid::regclass::text FROM people AS p (a) ORDER BY a;

-- table: system columns beside a grouping by the key
SELECT id, note, xmin IS NULL FROM customers GROUP BY id ORDER BY id;

-- leak refused: system columns beside the row would join it
SELECT c.tableoid::regclass, to_jsonb(c), (c).phone FROM people c;

-- leak refused: system columns beside a row by its star would join it
SELECT c.ctid, ROW(c.*) FROM people c;

-- leak refused: NATURAL would join by system columns
SELECT a.ctid, b.ctid, token FROM people a NATURAL JOIN payments b;

-- table: GROUP BY the key by the name that it gets
SELECT id AS key, name, upper(card) FROM customers GROUP BY key ORDER BY key;

-- table: optimistic locking by xmin
UPDATE people SET name = name WHERE id = 1 AND xmin = (SELECT xmin FROM people WHERE id = 1) RETURNING id, phone;

-- table: a row by its ctid
SELECT card FROM customers WHERE ctid = (SELECT ctid FROM customers WHERE id = 3);

-- table: a write by ctid
UPDATE people SET name = upper(name) WHERE ctid = (SELECT ctid FROM ONLY people WHERE id = 1) AND id = 1 RETURNING name, phone;

-- table: TABLESAMPLE
SELECT id, card FROM customers TABLESAMPLE BERNOULLI (100) REPEATABLE (1) ORDER BY id;

-- table: TABLESAMPLE with an alias and its columns
SELECT x, y FROM people AS p (x, y) TABLESAMPLE SYSTEM (100) ORDER BY x;

-- table: TABLESAMPLE of a filtered relation
SELECT count(*) FROM orders TABLESAMPLE SYSTEM (100);

-- table: ONLY
SELECT * FROM ONLY people;

-- table: descendants by a star
SELECT name, phone FROM people * ORDER BY id;

-- table: locks in every strength
SELECT card FROM customers c WHERE id = 1 FOR UPDATE OF c NOWAIT;
SELECT card FROM customers WHERE id = 1 FOR NO KEY UPDATE;
SELECT card FROM customers WHERE id = 1 FOR SHARE;
SELECT card FROM customers WHERE id = 1 FOR KEY SHARE SKIP LOCKED;

-- table: a lock of one side of a join
SELECT c.card, o.item FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY o.id FOR UPDATE OF c SKIP LOCKED;

-- table: a lock under ORDER BY and LIMIT, as queues do
SELECT id, item FROM orders WHERE amount > 5 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- table: a lock in a subquery that a write takes its row from
UPDATE orders SET amount = amount + 1 WHERE id = (SELECT id FROM orders ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, amount;

-- table: UPDATE WHERE CURRENT OF
BEGIN;
DECLARE k CURSOR FOR SELECT id, card FROM customers ORDER BY id FOR UPDATE;
FETCH 2 FROM k;
UPDATE customers SET visits = 50 WHERE CURRENT OF k RETURNING id, card;
COMMIT;

-- table: a field of the row
SELECT (c).id, (c).card FROM customers c ORDER BY 1;

-- table: a field of the row by function notation
SELECT id(c), card(c), phone(p) FROM customers c JOIN people p ON p.id = id(c) ORDER BY 1;

-- table: the row as JSON
SELECT row_to_json(p), to_json(p), json_build_object('p', p) FROM payments p ORDER BY p.id;

-- table: rows gathered as JSON
SELECT json_agg(p ORDER BY p.id), jsonb_agg(p.token ORDER BY p.id) FROM payments p;

-- table: the row as text
SELECT p::text, p.*::text FROM payments p ORDER BY p.id;

-- table: the row compared
SELECT count(*) FROM payments a JOIN payments b ON a = b;

-- table: the row counted
SELECT count(p), count(p.*) FROM payments p;

-- table: the row under an outer join is NULL
SELECT v.i, p IS NULL, p IS NOT NULL, p.id IS NULL, row_to_json(p) FROM (VALUES (1), (9)) v(i) LEFT JOIN payments p ON p.id = v.i ORDER BY 1;

-- table: a constant mask under an outer join is NULL
SELECT v.i, c.label, c.salary, c.tags, c.balance, c.label IS NULL FROM (VALUES (1), (9)) v(i) LEFT JOIN customers c ON c.id = v.i ORDER BY 1;

-- table: a filtered relation under outer joins
SELECT c.id, o.id, o.item, o IS NULL FROM orders o FULL JOIN customers c ON c.id = o.customer_id ORDER BY 1, 2;

-- table: USING, with the merged column by both names
SELECT id, a.id, b.id, card, token FROM customers a JOIN payments b USING (id) ORDER BY id;

-- table: USING under a full join
SELECT id, card, token FROM (SELECT id, card FROM customers WHERE id > 1) c FULL JOIN payments p USING (id) ORDER BY id;

-- table: USING and a star
SELECT * FROM payments JOIN vault USING (id, amount) ORDER BY id;

-- table: USING and a star, of all columns
SELECT * FROM payments p JOIN vault v USING (id) ORDER BY id;

-- table: NATURAL and a star
SELECT * FROM people NATURAL JOIN payments ORDER BY id;

-- table: NATURAL LEFT JOIN
SELECT * FROM people NATURAL LEFT JOIN payments ORDER BY id;

-- table: a column alias list
SELECT * FROM payments AS p (a, b) ORDER BY a;

-- table: a column alias list that swaps names
SELECT token, id FROM payments AS p (token, id) ORDER BY 1;

-- table: the order of a star
SELECT * FROM payments ORDER BY 1;

-- table: the order of a star over a join
SELECT * FROM vault v JOIN payments p ON p.id = v.id ORDER BY 1;

-- table: a star twice, with what stands between
SELECT p.*, 1 AS one, p.* FROM payments p ORDER BY p.id;

-- table: names and types of every visible column
SELECT * FROM customers LIMIT 0;

-- table: types of expressions over masks
SELECT pg_typeof(card), pg_typeof(salary), pg_typeof(balance), pg_typeof(birth), pg_typeof(seen), pg_typeof(tags), pg_typeof(doc), pg_typeof(blob) FROM customers LIMIT 1;

-- table: the length that a type says
SELECT balance, balance + 1, balance::numeric(5,0) FROM customers ORDER BY id;

-- table: a CTE with column names, joined to itself
WITH x (i, c) AS (SELECT id, card FROM customers) SELECT a.i, b.c FROM x a JOIN x b USING (i) ORDER BY 1;

-- table: a recursive CTE
WITH RECURSIVE x AS (SELECT id, card FROM customers WHERE id = 1 UNION ALL SELECT c.id, c.card FROM customers c JOIN x ON c.id = x.id + 1) SELECT * FROM x ORDER BY id;

-- table: LATERAL
SELECT c.id, l.item FROM customers c, LATERAL (SELECT o.item FROM orders o WHERE o.customer_id = c.id ORDER BY o.id LIMIT 1) l ORDER BY 1;

-- table: window functions over a mask
SELECT id, row_number() OVER (PARTITION BY label ORDER BY card), lag(card) OVER w, first_value(note) OVER w FROM customers WINDOW w AS (ORDER BY id) ORDER BY id;

-- table: set operations
SELECT id, card FROM customers UNION SELECT id, token FROM payments EXCEPT SELECT 1, 'x' ORDER BY 1, 2;

-- table: a view over a masked table, with its own key
SELECT v.id, v.card, v.email FROM customer_view v JOIN customers c USING (id) ORDER BY 1;

-- table: INSERT without a column list
INSERT INTO payments VALUES (7, NULL, 'mine', 3) RETURNING id, customer_email, amount;

-- table: INSERT without a column list, and fewer values
INSERT INTO payments VALUES (8) RETURNING id, amount;

-- table: INSERT without a column list, from a query
INSERT INTO people SELECT 9, 'Gil', 'a phone' RETURNING id, name;

-- table: INSERT DEFAULT VALUES
BEGIN;
INSERT INTO "Odd ""Name" DEFAULT VALUES RETURNING id;
ROLLBACK;

-- table: INSERT into a filtered relation without a column list
INSERT INTO orders VALUES (20, 1, 'eu', 'date', 5) RETURNING *;

-- table: INSERT of several rows
INSERT INTO orders VALUES (21, 1, 'eu', 'a', 5), (22, 2, 'eu', 'b', 6) RETURNING id, item;

-- table: ON CONFLICT by a constraint's name
INSERT INTO orders VALUES (1, 1, 'eu', 'apple', 11) ON CONFLICT ON CONSTRAINT orders_pkey DO UPDATE SET amount = excluded.amount RETURNING id, amount;

-- table: COPY FROM without a column list
COPY people FROM STDIN;

-- table: COPY of a table
COPY payments TO STDOUT;

-- table: COPY of a table with every column named, as pg_dump does
COPY public.payments (id, customer_email, token, amount) TO stdout;

-- table: COPY of the parent is COPY of ONLY the parent
COPY people TO STDOUT;

-- table: COPY of a filtered table
COPY orders TO STDOUT WITH (FORMAT csv, HEADER);

-- table: COPY of a query
COPY (SELECT id, token FROM payments ORDER BY id DESC) TO STDOUT WITH (FORMAT text, NULL 'none');

-- table: an ORM's full-row save under a filter
UPDATE orders SET customer_id = 1, region = 'eu', item = 'apple', amount = 12 WHERE id = 1 RETURNING id, amount;

-- table: pagination by a key
SELECT id, card FROM customers WHERE (id, visits) > (1, 1) ORDER BY id, visits LIMIT 2;

-- table: ANY of an array, as drivers send IN
SELECT id, note FROM customers WHERE id = ANY ('{1,3}'::int[]) ORDER BY id;

-- table: FETCH WITH TIES, OFFSET
SELECT id, label FROM customers ORDER BY label OFFSET 1 ROWS FETCH FIRST 1 ROW WITH TIES;

-- table: a scalar subquery and EXISTS of a filtered relation
SELECT c.id, EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id), (SELECT max(item) FROM orders o WHERE o.customer_id = c.id) FROM customers c ORDER BY 1;

-- table: VALUES joined to masks
SELECT v.*, p.phone FROM (VALUES (1, 'one'), (2, 'two')) AS v (n, word) JOIN people p ON p.id = v.n ORDER BY 1;

-- table: a join in parentheses with an alias
SELECT j.* FROM (payments p JOIN vault v USING (id)) AS j ORDER BY 1;

-- table: FILTER, WITHIN GROUP, ORDER BY in an aggregate
SELECT count(*) FILTER (WHERE visits > 1), percentile_disc(0.5) WITHIN GROUP (ORDER BY visits), string_agg(card, ',' ORDER BY id) FROM customers;
