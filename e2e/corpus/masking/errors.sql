-- Values in error messages.

-- leak works: a cast
SELECT card::int FROM customers;

-- leak works: a cast to a date
SELECT note::date FROM customers;

-- leak works: a cast to json
SELECT card::json FROM customers;

-- leak works: a cast to jsonb with its context
SELECT ('{"a": ' || card || '}')::jsonb FROM customers;

-- leak works: a cast to uuid
SELECT card::uuid FROM customers;

-- leak works: a cast to an address
SELECT card::inet FROM customers;

-- leak works: a cast to boolean
SELECT note::boolean FROM customers;

-- leak works: a cast to numeric
SELECT label::numeric FROM customers;

-- leak works: a cast to an array
SELECT ('{' || card)::text[] FROM customers;

-- leak works: a cast to a range
SELECT card::int4range FROM customers;

-- leak works: a cast to a regclass
SELECT card::regclass FROM customers;

-- leak works: a cast to a timestamp
SELECT card::timestamptz FROM customers;

-- leak succeeds: a cast to an interval
SELECT card::interval FROM customers;

-- leak works: a cast to xml
SELECT ('<' || card)::xml FROM customers;

-- leak works: a cast to a point
SELECT card::point FROM customers;

-- leak works: a cast to money
SELECT card::money FROM customers;

-- leak succeeds: a zone of that name
SELECT now() AT TIME ZONE card FROM customers;

-- leak works: a cast to oid
SELECT card::oid FROM customers;

-- leak works: a cast to macaddr
SELECT card::macaddr FROM customers;

-- leak works: a cast to pg_lsn
SELECT card::pg_lsn FROM customers;

-- leak works: a cast to tid
SELECT card::tid FROM customers;

-- leak works: text search syntax
SELECT (card || ' & & ')::tsquery FROM customers;

-- leak works: in WHERE
SELECT id FROM customers WHERE card::int = 1;

-- leak works: in ORDER BY
SELECT id FROM customers ORDER BY note::int;

-- leak works: in HAVING
SELECT region FROM customers GROUP BY region HAVING max(card)::int > 0;

-- leak works: in a join condition
SELECT 1 FROM customers c JOIN payments p ON p.id = c.card::int;

-- leak succeeds: integer out of range
SELECT (salary::text || '000')::int FROM customers;

-- leak works: a date out of range
SELECT (card || ' BC')::date FROM customers;

-- leak works: in LIMIT
SELECT id FROM customers LIMIT (SELECT card::int FROM customers WHERE id = 1);

-- same works: division by zero as an answer
SELECT 1 / (salary - 918273645) FROM customers;

-- same works: a cast as an answer
SELECT CASE WHEN note LIKE 'NOTEZQX%' THEN name::int ELSE 1 END FROM customers;

-- same works: more than one row as an answer
SELECT (SELECT i FROM generate_series(1, CASE WHEN card LIKE 'CARD%' THEN 2 ELSE 1 END) i) FROM customers;

-- same works: overflow as an answer
SELECT salary * 3 FROM customers;

-- same works: a square root as an answer
SELECT sqrt(918273644 - salary) FROM customers;

-- leak works: pg_input_is_valid and friends in a savepoint
BEGIN;
SAVEPOINT s;
SELECT card::int FROM customers;
ROLLBACK TO s;
SELECT card FROM customers;
COMMIT;

-- leak works: in an extended message with two statements after it
SELECT card::int FROM customers; SELECT note FROM customers;

-- leak: RAISE in DO
DO $$ DECLARE r text; BEGIN SELECT max(card) INTO r FROM customers; RAISE NOTICE '%', r; END $$;

-- refused: DO that makes a copy of a masked table
DO $$ BEGIN CREATE TABLE scratch.copied AS SELECT card FROM customers; EXCEPTION WHEN others THEN NULL; END $$;

-- refused: DO that adds a check over a masked column
DO $$ BEGIN ALTER TABLE customers ADD CONSTRAINT c CHECK (card::int > 0); EXCEPTION WHEN check_violation THEN NULL; END $$;

-- refused: DO whose handler looks
DO $$ BEGIN CREATE SCHEMA scratch; EXCEPTION WHEN others THEN RAISE NOTICE '%', (SELECT max(card) FROM customers); END $$;

-- leak: a condition in DO that fails on a masked value
DO $$ BEGIN IF (SELECT max(card)::int FROM customers) > 0 THEN CREATE SCHEMA scratch2; END IF; END $$;

-- leak: a write in DO that copies a masked column
DO $$ BEGIN IF true THEN UPDATE customers SET note = card; END IF; END $$; SELECT note FROM customers;

-- leak refused: a table that DO may have made in place of a masked one
DO $$ BEGIN IF false THEN CREATE TABLE scratch.customers (card text); END IF; ALTER TABLE customers ADD CONSTRAINT c CHECK (card::int > 0); END $$;

-- refused: a condition in DO that sets the search_path
DO $$ BEGIN IF set_config('search_path', 'scratch', false) = '' THEN CREATE SCHEMA scratch2; END IF; END $$;

-- refused: a write in DO that returns rows
DO $$ BEGIN UPDATE customers SET note = '' WHERE id = 1 RETURNING note; END $$;

-- leak refused: code beside a condition in DO
DO $$ BEGIN IF true THEN CREATE SCHEMA scratch2; END IF; RAISE NOTICE '%', (SELECT card FROM customers LIMIT 1); END $$;

-- leak: an exception in DO
DO $$ BEGIN PERFORM card::int FROM customers; END $$;
