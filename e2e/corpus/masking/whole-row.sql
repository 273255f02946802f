-- The row as a value.

-- leak works: the row itself
SELECT c FROM customers c;

-- leak works: the row as text
SELECT c::text FROM customers c;

-- leak works: the row, expanded
SELECT (c).* FROM customers c;

-- leak works: a field by parentheses
SELECT (c).card FROM customers c;

-- leak works: a field by function notation
SELECT card(c) FROM customers c;

-- leak works: the unaliased row
SELECT customers FROM customers;

-- leak works: the row in a row
SELECT ROW(c, 1) FROM customers c;

-- leak works: the row in an array
SELECT ARRAY[c] FROM customers c;

-- leak works: rows gathered
SELECT array_agg(c) FROM customers c;

-- leak works: the row through a subquery
SELECT s FROM (SELECT * FROM customers) s;

-- leak works: a field of the row of a subquery
SELECT (s.c).card FROM (SELECT c FROM customers c) s;

-- leak: a row that is cast to its type and back
SELECT (c::customers).card FROM customers c;

-- leak works: whole rows by concat
SELECT concat(c, ''), format('%s', c) FROM customers c;

-- leak works: a row in COALESCE
SELECT COALESCE(c, NULL)::text FROM customers c;

-- leak works: a row in CASE
SELECT (CASE WHEN true THEN c END)::text FROM customers c;

-- leak works: the greatest row
SELECT max(c::text) FROM customers c;

-- same works: a row compared
SELECT count(*) FROM customers c WHERE c::text LIKE '%CARD%';

-- leak works: ROW with an expansion
SELECT ROW(c.*) FROM customers c;

-- leak works: rows of a VALUES join
SELECT v, c FROM (VALUES (1)) v(i) JOIN customers c ON c.id = v.i;

-- leak works: hash of a record in text
SELECT md5(c::text), c::text FROM customers c;

-- leak: a row by a function that takes the row type
SELECT leak_member(c) FROM customers c;

-- leak: a row by attribute notation of a function
SELECT c.leak_member FROM customers c;

-- leak: a row type filled from jsonb
SELECT (jsonb_populate_record(NULL::customers, to_jsonb(c))).card FROM customers c;

-- leak works: the target's row as columns of a subquery
UPDATE customers SET visits = visits WHERE id = 1 RETURNING (SELECT t.card FROM (SELECT customers.*) t);

-- leak works: the target's columns in a row, after others
UPDATE customers SET visits = visits WHERE id = 1 RETURNING row(1, customers.*);

-- leak works: the target's row with a star in a call, a cast and an array
UPDATE customers c SET visits = visits WHERE id = 1 RETURNING row_to_json(c.*), (c.*)::text, ARRAY[c.*]::text, coalesce(c.*)::text;

-- leak works: the target's columns in VALUES and in a set operation
UPDATE customers SET visits = visits WHERE id = 1 RETURNING (SELECT v::text FROM (VALUES (customers.*)) v), (SELECT u::text FROM (SELECT customers.* UNION ALL SELECT customers.*) u LIMIT 1);

-- leak works: the target's row stored in a plain column
UPDATE customers SET name = row(customers.*)::text WHERE id = 1;
SELECT name FROM customers WHERE id = 1;

-- leak works: the target's row stored by way of a subquery
UPDATE people SET name = (SELECT t::text FROM (SELECT people.*) t) WHERE id = 1 RETURNING name;

-- leak works: the target's row by a call in attribute notation
UPDATE customers SET visits = visits WHERE id = 1 RETURNING customers.to_jsonb;

-- leak works: the row in DO UPDATE
INSERT INTO customers (id, name, card) VALUES (1, 'Ada', 'aaaaaaa') ON CONFLICT (id) DO UPDATE SET name = row(customers.*)::text RETURNING name;

-- leak works: the row in DELETE … RETURNING
DELETE FROM payments WHERE id = 1 RETURNING (SELECT t::text FROM (SELECT payments.*) t), row(payments.*);

-- same: a condition on the target's row by way of a subquery
UPDATE customers SET visits = 99 WHERE id = 1 AND (SELECT t.card FROM (SELECT customers.*) t) LIKE 'CARD%';

-- since15 same: a condition on the row in MERGE
MERGE INTO customers USING (VALUES (1)) v (x) ON id = x WHEN MATCHED AND row(customers.*)::text LIKE '%CARDZ%' THEN UPDATE SET visits = 77;
SELECT visits FROM customers WHERE id = 1;

-- table works: the row of an alias that renames columns keeps the names of its fields
SELECT to_jsonb((o.*)), row_to_json(o), to_jsonb(o) FROM orders AS o (a, b, c) WHERE a = 1;

-- table works: no row of an alias that renames columns
SELECT n, to_jsonb(o), o IS NULL FROM generate_series(1, 2) n LEFT JOIN orders AS o (n2, b, c) ON o.n2 = n AND o.b = 1 ORDER BY n;

-- table works: rows of an alias that renames columns, counted, sorted and grouped by
SELECT o::text, count(o), count(*) FROM orders AS o (a, b, c) GROUP BY o ORDER BY o;

-- leak works: the row of an alias that renames masked columns
SELECT to_jsonb(c) ->> 'card', c FROM customers AS c (x, y) ORDER BY c.x;

-- table works: a field of the row of an alias that renames columns is the column of that name
SELECT (o).a, (o.*).b, o.c FROM orders AS o (a, b, c) WHERE (o).a = 1 ORDER BY (o).b;

-- leak works: a field of the row of an alias that renames masked columns
SELECT (c).k, (c.*).z, c FROM customers AS c (x, y, z, k) ORDER BY (c).x;

-- leak works: a field of the row of an alias, from a subquery and after an outer join
SELECT n, (SELECT (c).k), (c).x IS NULL FROM generate_series(1, 3) n LEFT JOIN customers AS c (x, y, z, k) ON (c).x = n ORDER BY n;
