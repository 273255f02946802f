-- What constraints say of rows: details are taken out, names and SQLSTATE stay.

-- leak: NOT NULL on a plain column
UPDATE customers SET name = NULL WHERE id = 1;

-- leak: CHECK on a plain column
UPDATE customers SET visits = -1 WHERE id = 1;

-- leak: CHECK on a masked column
UPDATE customers SET salary = -5 WHERE id = 1;

-- leak: NOT NULL on a masked column
UPDATE customers SET card = NULL WHERE id = 1;

-- leak: a primary key
UPDATE customers SET id = 2 WHERE id = 1;
SELECT card FROM customers WHERE id = 1;

-- leak: a unique key over a masked column
UPDATE payments SET token = (SELECT 'TOKENZQX94-2'::text) WHERE id = 1;

-- leak: INSERT of all but one column
INSERT INTO customers (id, card) SELECT 100, card FROM customers;
SELECT card FROM customers;

-- leak: an insert into a partition that is not there
INSERT INTO events VALUES (3, (SELECT max(card) FROM customers), 'x');

-- leak: a row that leaves its partition
UPDATE events_eu SET region = 'us' WHERE id = 1;

-- leak: a foreign key, at once
UPDATE customers SET email = 'gone@example.com' WHERE id = 1;

-- leak: a foreign key on delete
DELETE FROM customers WHERE id = 2;
SELECT card FROM customers WHERE id = 2;

-- leak: a foreign key, deferred to COMMIT
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
UPDATE payments SET customer_email = 'nobody@example.com' WHERE id = 1;
COMMIT;
SELECT customer_email FROM payments;

-- leak: a foreign key by SET CONSTRAINTS IMMEDIATE
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
UPDATE payments SET customer_email = 'nobody@example.com' WHERE id = 1;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
SELECT customer_email FROM payments;

-- leak: a unique key, deferred to COMMIT
BEGIN;
SET CONSTRAINTS payments_token_key DEFERRED;
UPDATE payments SET token = 'same';
COMMIT;
SELECT token FROM payments;

-- leak: NOT NULL in an upsert
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT (id) DO UPDATE SET name = NULL;

-- leak since15: CHECK in a MERGE
MERGE INTO customers c USING (VALUES (1)) v(i) ON c.id = v.i WHEN MATCHED THEN UPDATE SET visits = -1;

-- leak: a constraint in COPY
COPY people FROM STDIN;
SELECT phone FROM people;

-- leak: a NOT NULL through a view
UPDATE customer_view SET name = NULL WHERE id = 1;

-- leak: adding a constraint reads every row
ALTER TABLE customers ADD CONSTRAINT probe CHECK (shout(card) IS NOT NULL);

-- leak: a validated foreign key
ALTER TABLE payments ADD CONSTRAINT probe FOREIGN KEY (token) REFERENCES customers (email);

-- leak: a foreign key to a masked column, as an oracle
BEGIN;
CREATE TABLE scratch.probe (guess text REFERENCES customers (email));
INSERT INTO scratch.probe VALUES ('mailzqx88.1@example.com');
SELECT guess FROM scratch.probe;
ROLLBACK;

-- leak: a foreign key to a filtered table, as an oracle
BEGIN;
CREATE TABLE scratch.probe (guess int REFERENCES orders);
INSERT INTO scratch.probe VALUES (2);
SELECT (SELECT item FROM orders WHERE id = guess) FROM scratch.probe;
ROLLBACK;

-- same works: a foreign key to the key of a masked table, and one to itself
BEGIN;
CREATE TABLE scratch.mine (id int PRIMARY KEY, payment int REFERENCES payments, parent int REFERENCES scratch.mine);
INSERT INTO scratch.mine VALUES (1, 2, 1);
SELECT m.id, p.token, p.customer_email FROM scratch.mine m JOIN payments p ON p.id = m.payment;
ROLLBACK;

-- leak: a unique index over an expression
CREATE UNIQUE INDEX probe ON customers (left(card, 9));

-- leak: an index over an expression that raises
CREATE INDEX probe ON customers ((card::int));

-- leak: a type change that raises
ALTER TABLE payments ALTER COLUMN token TYPE int USING token::int;

-- leak: an exclusion
ALTER TABLE customers ADD CONSTRAINT probe EXCLUDE USING btree (salary WITH =);
