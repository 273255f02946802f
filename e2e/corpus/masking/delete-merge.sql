-- DELETE and MERGE.

-- leak works: RETURNING everything
BEGIN;
DELETE FROM people RETURNING *;
ROLLBACK;

-- leak works: RETURNING the row
BEGIN;
DELETE FROM payments p WHERE id = 1 RETURNING p;
ROLLBACK;

-- leak works: USING
BEGIN;
DELETE FROM payments p USING customers c WHERE c.id = p.id RETURNING c.card, p.token;
ROLLBACK;

-- leak works: a CTE that deletes into another table
BEGIN;
WITH x AS (DELETE FROM payments RETURNING id, token) INSERT INTO other.customers SELECT * FROM x RETURNING card;
SELECT * FROM other.customers;
ROLLBACK;

-- same: a guess in the condition
BEGIN;
DELETE FROM payments WHERE id = 1 AND token = 'TOKENZQX94-1';
ROLLBACK;

-- same: a guess by a number
BEGIN;
DELETE FROM vault WHERE id = 1 AND pin = 918273645;
ROLLBACK;

-- leak: an error in the condition
DELETE FROM payments WHERE id = 1 AND token::int = 0;

-- leak: an error in RETURNING
DELETE FROM payments WHERE id = 1 RETURNING token::int;

-- leak works: a whole-row delete by what was read
BEGIN;
DELETE FROM payments WHERE id = 1 AND token = '************' RETURNING token;
SELECT token FROM payments WHERE id = 2;
ROLLBACK;

-- leak since15: MERGE into a plain table
BEGIN;
MERGE INTO other.customers o USING customers c ON o.id = c.id WHEN MATCHED THEN UPDATE SET card = c.card WHEN NOT MATCHED THEN INSERT VALUES (c.id, c.note);
SELECT card FROM other.customers;
ROLLBACK;

-- leak since15: MERGE into a masked table
BEGIN;
MERGE INTO customers c USING (VALUES (1)) v(i) ON c.id = v.i WHEN MATCHED THEN UPDATE SET name = c.card;
SELECT name FROM customers WHERE id = 1;
ROLLBACK;

-- leak since15: MERGE that reads itself
BEGIN;
MERGE INTO customers c USING customers d ON c.id = d.id WHEN MATCHED AND d.card LIKE 'CARD%' THEN UPDATE SET name = d.card || c.note;
SELECT name FROM customers;
ROLLBACK;

-- same since15: MERGE with a guess
BEGIN;
MERGE INTO customers c USING (VALUES (1)) v(i) ON c.id = v.i WHEN MATCHED AND c.salary = 918273645 THEN UPDATE SET visits = 77;
SELECT visits FROM customers WHERE id = 1;
ROLLBACK;

-- leak since15: MERGE with an error
MERGE INTO customers c USING (VALUES (1)) v(i) ON c.id = v.i WHEN MATCHED AND c.card::int = 1 THEN DO NOTHING;

-- leak since15: MERGE in a filtered table
BEGIN;
MERGE INTO orders o USING (VALUES (1), (2)) v(i) ON o.id = v.i WHEN MATCHED THEN UPDATE SET amount = 0;
SELECT * FROM orders;
ROLLBACK;

-- same since15: MERGE that deletes in a filtered table
BEGIN;
MERGE INTO orders o USING (VALUES (1), (2), (4)) v(i) ON o.id = v.i WHEN MATCHED THEN DELETE;
ROLLBACK;

-- leak: a delete that cascades nowhere, with a foreign key in the way
DELETE FROM customers WHERE id = 1;
SELECT card FROM customers WHERE id = 1;

-- refused: a key that is compared with something else for each row
DELETE FROM customers WHERE card = '**********0001' AND id = (1 + 0 * random())::int;
