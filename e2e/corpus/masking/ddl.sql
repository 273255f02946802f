-- DDL that would read, copy or uncover values.

-- leak: a policy of row security
ALTER TABLE orders DISABLE ROW LEVEL SECURITY;
SELECT item FROM orders;

-- leak: a type change
ALTER TABLE customers ALTER COLUMN card TYPE varchar(100);
SELECT card FROM customers;

-- leak: a type change of a neighbour that reads it
ALTER TABLE payments ALTER COLUMN amount TYPE text USING token;
SELECT amount FROM payments;

-- leak: a generated column
ALTER TABLE customers ADD COLUMN copy text GENERATED ALWAYS AS (card) STORED;
SELECT copy FROM customers;

-- leak: a generated column in a child
CREATE TABLE scratch.child (copy text GENERATED ALWAYS AS (phone) STORED) INHERITS (people);
INSERT INTO scratch.child (id, phone) SELECT id, phone FROM people;
SELECT copy FROM scratch.child;

-- leak: a rename
ALTER TABLE customers RENAME COLUMN card TO x;
SELECT x FROM customers;

-- leak: a drop and a read
ALTER TABLE customers DROP COLUMN name CASCADE;
SELECT card FROM customers;

-- leak: a view that replaces one
CREATE OR REPLACE VIEW customer_nested AS SELECT c.id, c.secret AS c FROM customers c;
SELECT c FROM customer_nested;

-- leak: a new owner
ALTER TABLE customers OWNER TO admin;
SELECT card FROM customers;

-- leak: a grant
GRANT SELECT ON customers TO public;
SELECT card FROM customers;

-- leak: a comment is no value
COMMENT ON TABLE other.customers IS 'x';
SELECT card FROM customers;

-- leak: CLUSTER and VACUUM
VACUUM (VERBOSE) customers;
SELECT card FROM customers;

-- leak: CREATE TABLE LIKE INCLUDING ALL
CREATE TABLE scratch.l (LIKE customers INCLUDING ALL);
INSERT INTO scratch.l (id, name, card) SELECT id, name, card FROM customers;
SELECT card FROM scratch.l;

-- leak: a foreign table
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
SELECT card FROM customers;

-- leak: dblink
SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t(a int);
SELECT card FROM customers;

-- leak: an event trigger, a publication
CREATE PUBLICATION p FOR TABLE customers;
SELECT card FROM customers;

-- leak: a domain with a CHECK that speaks
CREATE DOMAIN scratch.d AS text CHECK (shout(VALUE) IS NOT NULL);
SELECT card::scratch.d FROM customers;

-- leak: a cast
CREATE CAST (text AS int) WITH INOUT;
SELECT card FROM customers;

-- same: a new CHECK of a domain is tried on stored values
BEGIN;
ALTER DOMAIN word ADD CHECK (VALUE !~ 'CODEZQX85-5');
ROLLBACK;

-- same: a CHECK of a domain, made first and tried later
BEGIN;
ALTER DOMAIN word ADD CONSTRAINT probe CHECK (VALUE !~ 'CODEZQX85-5') NOT VALID;
ALTER DOMAIN word VALIDATE CONSTRAINT probe;
ROLLBACK;

-- leak: labels that change their names turn a filter
BEGIN;
ALTER TYPE stage RENAME VALUE 'open' TO 'other';
ALTER TYPE stage RENAME VALUE 'shut' TO 'open';
SELECT * FROM parcels;
ROLLBACK;

-- works: a new label, and types that no masked relation has
BEGIN;
ALTER TYPE stage ADD VALUE 'lost';
CREATE DOMAIN scratch.d AS int;
ALTER DOMAIN scratch.d ADD CHECK (VALUE > 0);
CREATE TYPE scratch.e AS ENUM ('a');
ROLLBACK;
