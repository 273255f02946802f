-- Cursors.

-- leak works: FETCH
BEGIN;
DECLARE k CURSOR FOR SELECT card FROM customers;
FETCH 2 FROM k;
COMMIT;

-- leak works: FETCH ALL of a row
BEGIN;
DECLARE k CURSOR FOR SELECT c FROM customers c;
FETCH ALL k;
COMMIT;

-- leak works: WITH HOLD
BEGIN;
DECLARE k CURSOR WITH HOLD FOR SELECT note FROM customers;
COMMIT;
FETCH ALL FROM k;
CLOSE k;

-- leak works: SCROLL
BEGIN;
DECLARE k SCROLL CURSOR FOR SELECT card FROM customers ORDER BY id;
FETCH LAST FROM k;
FETCH PRIOR FROM k;
FETCH ABSOLUTE 1 FROM k;
COMMIT;

-- leak works: BINARY
BEGIN;
DECLARE k BINARY CURSOR FOR SELECT card, salary, balance FROM customers;
FETCH ALL FROM k;
COMMIT;

-- leak works: MOVE, then FETCH
BEGIN;
DECLARE k CURSOR FOR SELECT email, secret FROM customers;
MOVE 1 FROM k;
FETCH 1 FROM k;
COMMIT;

-- leak works: WHERE CURRENT OF
BEGIN;
DECLARE k CURSOR FOR SELECT id, card FROM customers WHERE id = 2 FOR UPDATE;
FETCH 1 FROM k;
UPDATE customers SET visits = visits + 1 WHERE CURRENT OF k RETURNING card;
ROLLBACK;

-- refused: WHERE CURRENT OF in a filtered table, whose row may have left the filter since it was fetched
BEGIN;
DECLARE k CURSOR FOR SELECT * FROM orders WHERE amount > 15;
FETCH 1 FROM k;
DELETE FROM orders WHERE CURRENT OF k RETURNING *;
ROLLBACK;

-- leak works: one that reads a table with a filter
BEGIN;
DECLARE k CURSOR FOR SELECT * FROM orders ORDER BY id;
FETCH 10 FROM k;
COMMIT;

-- leak works: its text in pg_cursors
BEGIN;
DECLARE k CURSOR FOR SELECT card FROM customers;
SELECT name FROM pg_cursors;
FETCH ALL k;
COMMIT;
