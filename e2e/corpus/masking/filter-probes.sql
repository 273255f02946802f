-- A filter can't be probed by errors, notices, plans or the order of evaluation.

-- leak: an error in the select list
SELECT item::int FROM orders WHERE region = 'us';

-- same: a cast in the predicate
SELECT id FROM orders WHERE CASE WHEN item LIKE 'OUT%' THEN item::int ELSE 1 END > 0;

-- same: a cast of rows outside, first
SELECT id FROM orders WHERE region = 'us' AND item::int > 0;

-- same: division by zero as an answer
SELECT id FROM orders WHERE 1 / (amount - 777123) > 0 ORDER BY id;

-- same: division by zero in an outer query
SELECT * FROM (SELECT id, amount FROM orders) s WHERE 1 / (s.amount - 777123) > 0 ORDER BY id;

-- same: division by zero in a join
SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id AND 1 / (o.amount - 777123) > -1 ORDER BY 1;

-- same: division by zero in an aggregate
SELECT sum(1 / (amount - 777123)) FROM orders;

-- same: an error in a FILTER
SELECT count(*) FILTER (WHERE 1 / (amount - 777123) > 0) FROM orders;

-- same: an error in ORDER BY
SELECT id FROM orders ORDER BY 1 / (amount - 777123), id;

-- same: a regular expression that fails
SELECT id FROM orders WHERE item ~ 'OUTZQX90' OR 'a' ~ item ORDER BY id;

-- same: LIKE with a bad escape
SELECT id FROM orders WHERE item LIKE 'OUT%' AND 'OUTZQX90-ax' LIKE item || '\' ORDER BY id;

-- same: a date out of an item
SELECT id FROM orders WHERE CASE WHEN item LIKE 'OUT%' THEN item::date > now() ELSE true END ORDER BY id;

-- same: numeric overflow
SELECT id FROM orders WHERE power(amount::numeric, 5)::int IS NULL ORDER BY id;

-- same: text to a cast over COALESCE
SELECT id FROM orders WHERE (CASE item WHEN 'apple' THEN '1' WHEN 'bread' THEN '2' WHEN 'cheese' THEN '3' ELSE item END)::int = 2 ORDER BY id;

-- same: a subquery that returns more than one row
SELECT id FROM customers c WHERE (SELECT o.id FROM orders o WHERE o.customer_id = c.id) > 0 ORDER BY id;

-- same: a probe by LIMIT of the whole
SELECT id FROM orders ORDER BY amount DESC LIMIT 1;

-- leak: a function that tells what it sees
SELECT id FROM orders WHERE shout(item) <> '';

-- leak: the same in an outer query
SELECT id FROM (SELECT * FROM orders) s WHERE shout(s.item) <> '';

-- leak: the same on a masked column
SELECT id FROM customers WHERE shout(card) <> '';

-- leak: EXPLAIN ANALYZE of a function that tells
EXPLAIN ANALYZE SELECT id FROM orders WHERE shout(item) <> '';

-- leak: an error in UPDATE's condition
UPDATE orders SET amount = amount WHERE item LIKE 'OUT%' AND item::int > 0;

-- same: an error in UPDATE's condition, on a row outside
UPDATE orders SET amount = amount WHERE 1 / (amount - 777123) > 0;

-- same: an error in DELETE's condition
DELETE FROM orders WHERE 1 / (amount - 777123) > 0;

-- same: an error in UPDATE's value
UPDATE orders SET amount = amount + 0 / (amount - 777123);

-- leak: an error in RETURNING
UPDATE orders SET amount = amount WHERE item LIKE 'OUT%' RETURNING item::int;

-- same: statistics run the client's operator
SELECT id FROM orders WHERE amount = 777123 AND 1 / (amount - 777123) = 0;

-- same: a generate_series that would fail
SELECT o.id FROM orders o, generate_series(1, 1 / (o.amount - 777123)) g ORDER BY 1;

-- same: an error in a LATERAL
SELECT l.x FROM orders o, LATERAL (SELECT 1 / (o.amount - 777123) AS x) l ORDER BY 1;

-- same: a window that would fail
SELECT sum(1 / (amount - 777123)) OVER () FROM orders;

-- same: an error under NOT
SELECT id FROM orders WHERE NOT (1 / (amount - 777123) > 0) ORDER BY id;

-- same: an error under OR
SELECT id FROM orders WHERE id = 1 OR 1 / (amount - 777123) > 0 ORDER BY id;

-- same: an error in an IN list
SELECT id FROM orders WHERE 5 IN (1 / (amount - 777123), 5) ORDER BY id;

-- same: an error in a CASE
SELECT id, CASE WHEN region = 'us' THEN 1 / (amount - 777123) ELSE 1 END FROM orders ORDER BY id;

-- same: a condition that reads nothing and raises is not tried on a row outside
SET enable_seqscan = off;
SELECT id FROM orders WHERE customer_id = 4 AND setseed(7) IS NULL;

-- same: the same around a subquery
SET enable_seqscan = off;
SELECT id FROM (SELECT * FROM orders) s WHERE customer_id = 4 AND setseed(7) IS NULL;

-- same: a condition that reads nothing and leaves a trace is not tried on a row outside
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT id FROM orders WHERE customer_id = 4 AND pg_advisory_xact_lock(7) IS NULL;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;

-- same: the same in a write
BEGIN;
SET LOCAL enable_seqscan = off;
UPDATE orders SET amount = amount WHERE customer_id = 4 AND pg_advisory_xact_lock(7) IS NULL;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;

-- same: a comparison with a volatile value
BEGIN;
CREATE SEQUENCE scratch.s;
SET LOCAL enable_seqscan = off;
SELECT id FROM orders WHERE customer_id = 4 AND amount = nextval('scratch.s');
SELECT last_value, is_called FROM scratch.s;
ROLLBACK;

-- same: NULL in place of what is outside makes an error, where operators cost nothing
SET cpu_operator_cost = 0;
SET enable_seqscan = off;
SELECT id FROM orders WHERE customer_id = 4 AND 1 / coalesce(nullif(amount, 777123), 0) > 0;

-- same: the same in a subquery, whose cost does not tell what it reads
SET cpu_tuple_cost = 0;
SET enable_seqscan = off;
SELECT id FROM orders o WHERE customer_id = 4 AND (SELECT setseed(coalesce(nullif(o.amount, 777123), 7))) IS NULL;

-- same: a parameter that makes an error, in a generic plan
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
PREPARE probe (int) AS SELECT id FROM orders WHERE customer_id = 4 AND amount = 1 / $1;
EXECUTE probe (0);

-- same works: a filter with a subquery is tried before what the client wrote
SET enable_seqscan = off;
SELECT id FROM tasks WHERE item = 'OUTZQX90-e' AND 1 / coalesce(nullif(parcel, 2), 0) > 0;

-- works: volatile conditions of ordinary statements
SELECT count(*) FROM orders WHERE random() < 2;
SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer_id WHERE clock_timestamp() >= now() ORDER BY random(), 1;
SELECT id FROM orders WHERE id = 1 AND random() < 2 FOR UPDATE SKIP LOCKED;
SELECT id FROM orders WHERE pg_try_advisory_xact_lock(id) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
UPDATE orders SET amount = amount WHERE random() < 2 AND region = 'eu';
SELECT id FROM orders o WHERE (SELECT upper(o.item)) IS NOT NULL AND EXISTS (SELECT 1 FROM customers c WHERE c.name <> lower(o.item));

-- same works: what can fail as it runs beside a condition that can't
SELECT id FROM tasks WHERE item <> 'OUTZQX90-e' OR ('garbage' || '')::date IS NULL;
SELECT id FROM tasks WHERE NOT (item = 'OUTZQX90-e' AND ('garbage' || '')::date IS NULL);
SELECT id FROM tasks WHERE item <> 'OUTZQX90-e' OR to_date('garbage' || item, 'YYYY') IS NULL AND false;

-- same works: the same where a domain has the check
CREATE DOMAIN scratch.never AS text CHECK (VALUE IS NULL);
SELECT id FROM tasks WHERE item <> 'OUTZQX90-e' OR 'x'::scratch.never IS NULL;

-- same works: what can fail in another relation, which is read for each row that was found before
CREATE TEMP TABLE tried (g text);
INSERT INTO tried VALUES ('garbage');
SELECT t.id FROM tasks t, (SELECT DISTINCT g::date AS d FROM tried) x WHERE t.item = 'OUTZQX90-e';
SELECT t.id FROM tasks t, (SELECT 1 LIMIT -1) x WHERE t.item = 'OUTZQX90-e';
UPDATE tasks t SET item = 'u' FROM (SELECT 1 LIMIT -1) x WHERE t.item = 'OUTZQX90-e';

-- works: a type of the client's own is not what a stored value is cast to
BEGIN;
CREATE TEMP TABLE text (a int);
UPDATE customers SET card = 'CARDX-1234' WHERE id = 1;
SELECT card FROM customers WHERE id = 1;
ROLLBACK;

-- works: a target that is called as the gate calls its own
BEGIN;
UPDATE customers postern_new SET card = upper('cardx-1234') WHERE id = 1;
UPDATE customers postern_row SET (name, card) = (SELECT 'z', 'cardx-1111') WHERE id = 1;
ROLLBACK;
