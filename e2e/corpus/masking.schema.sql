-- The database of the masking corpus. Every masked or hidden value, and every row outside the filter, holds a marker
-- that e2e/src/leak.rs knows. All of it belongs to the role that sessions run as, so no privilege of the server helps.

CREATE TABLE customers (
    id int PRIMARY KEY,
    name text NOT NULL,
    email text CONSTRAINT customers_email_key UNIQUE,                   -- email
    card text NOT NULL CONSTRAINT customers_card_check CHECK (length(card) > 5), -- partial, keeps the last 4
    ssn text,                                                           -- hidden
    note text,                                                          -- redact
    secret text,                                                        -- nullify
    code text,                                                          -- hash
    label text,                                                         -- fixed
    birth date,                                                         -- truncateDate to the year
    seen timestamptz,                                                   -- truncateDate to the hour
    balance numeric(12,2),                                              -- bucket of 1000
    salary int CONSTRAINT customers_salary_check CHECK (salary > 0),    -- default
    doc jsonb,                                                          -- nullify
    blob bytea,                                                         -- nullify
    tags text[],                                                        -- default
    card_lower text GENERATED ALWAYS AS (lower(card)) STORED,           -- from a masked column
    region text NOT NULL DEFAULT 'eu',
    visits int NOT NULL DEFAULT 0 CONSTRAINT customers_visits_check CHECK (visits >= 0)
);
INSERT INTO customers (id, name, email, card, ssn, note, secret, code, label, birth, seen, balance, salary, doc, blob, tags, region, visits)
SELECT i, (ARRAY['Ada', 'Bob', 'Cyd', 'Dan'])[i], 'mailzqx88.' || i || '@example.com', 'CARDZQX81-000' || i, 'SSNZQX82-' || i,
       'NOTEZQX83-' || i, 'SECRETZQX84-' || i, 'CODEZQX85-' || i, 'LABELZQX86-' || i, CASE i WHEN 4 THEN date '1937-11-30' ELSE '1937-04-19' END,
       timestamptz '2021-06-15 13:47:29.123456+00', CASE i WHEN 4 THEN 918999.50 ELSE 918273.64 END, CASE i WHEN 4 THEN 5 ELSE 918273645 END, '{"k": "JSONZQX87"}', 'BLOBZQX89', '{TAGSZQX91}',
       CASE i WHEN 4 THEN 'us' ELSE 'eu' END, i
FROM generate_series(1, 4) AS i;

CREATE TABLE orders (                                                   -- filter: region = 'eu'
    id int PRIMARY KEY,
    customer_id int REFERENCES customers (id),
    region text NOT NULL,
    item text NOT NULL,
    amount int NOT NULL
);
CREATE INDEX orders_customer ON orders (customer_id);
INSERT INTO orders VALUES (1, 1, 'eu', 'apple', 10), (2, 1, 'us', 'OUTZQX90-a', 777123), (3, 2, 'eu', 'bread', 20),
    (4, 3, 'us', 'OUTZQX90-b', 777123), (5, 3, 'eu', 'cheese', 30), (6, 4, 'us', 'OUTZQX90-c', 777123);

CREATE TABLE people (id int PRIMARY KEY, name text, phone text);       -- phone: redact
CREATE TABLE managers (bonus int) INHERITS (people);                    -- bonus: default
INSERT INTO people VALUES (1, 'Eve', 'PHONEZQX92-1');
INSERT INTO managers VALUES (2, 'Fay', 'PHONEZQX92-2', 827364519);

CREATE TABLE events (id int, region text NOT NULL, payload text) PARTITION BY LIST (region); -- payload: nullify
CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu');
CREATE TABLE events_us PARTITION OF events FOR VALUES IN ('us');
INSERT INTO events VALUES (1, 'eu', 'EVENTZQX93-1'), (2, 'us', 'EVENTZQX93-2');

CREATE TABLE payments (
    id int PRIMARY KEY,
    customer_email text CONSTRAINT payments_email_fkey REFERENCES customers (email) DEFERRABLE INITIALLY IMMEDIATE, -- email
    token text CONSTRAINT payments_token_key UNIQUE DEFERRABLE,         -- redact
    amount int
);
INSERT INTO payments VALUES (1, 'mailzqx88.1@example.com', 'TOKENZQX94-1', 5), (2, 'mailzqx88.2@example.com', 'TOKENZQX94-2', 6);

CREATE TABLE vault (id int PRIMARY KEY, amount int, pin int, CONSTRAINT vault_check CHECK (amount <> pin)); -- pin: default
INSERT INTO vault VALUES (1, 10, 918273645), (2, 20, 918273645);

CREATE TABLE audited (id int PRIMARY KEY, pin text, memo text);        -- pin: redact
INSERT INTO audited VALUES (1, 'PINZQX95-1', 'a'), (2, 'PINZQX95-2', 'b');
CREATE FUNCTION audited_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN RAISE NOTICE 'gone: %', OLD.pin; RETURN OLD; END IF;
    IF NEW.memo = 'notice' THEN RAISE NOTICE 'pin %', NEW.pin; END IF;
    IF NEW.memo = 'warning' THEN RAISE WARNING 'row %', NEW; END IF;
    IF NEW.memo = 'boom' THEN RAISE EXCEPTION 'pin is %', NEW.pin USING DETAIL = NEW.pin, HINT = NEW.pin; END IF;
    IF NEW.memo = 'cast' THEN PERFORM NEW.pin::int; END IF;
    IF NEW.memo = 'copy' THEN NEW.memo := NEW.pin; END IF;
    IF NEW.memo = 'notify' THEN PERFORM pg_notify('pins', NEW.pin); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audited_change BEFORE INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audited_change();

CREATE TABLE "Odd ""Name" (id int, "Select" text);                     -- "Select": redact
INSERT INTO "Odd ""Name" VALUES (1, 'ODDZQX96');

CREATE DOMAIN word AS text;
CREATE TABLE coded (id int PRIMARY KEY, code word);                     -- code: redact
INSERT INTO coded VALUES (1, 'CODEZQX85-5'), (2, 'CODEZQX85-6');

CREATE TYPE stage AS ENUM ('open', 'shut');
CREATE TABLE parcels (id int PRIMARY KEY, stage stage, item text);      -- filter: stage = 'open'
INSERT INTO parcels VALUES (1, 'open', 'pear'), (2, 'shut', 'OUTZQX90-d');

CREATE TABLE tasks (id int PRIMARY KEY, parcel int, item text);         -- filter: the parcel is open
CREATE INDEX tasks_item ON tasks (item);
INSERT INTO tasks VALUES (1, 1, 'pack'), (2, 2, 'OUTZQX90-e');

-- Computed as it is read where the server can.
DO $$ BEGIN
    EXECUTE 'CREATE TABLE virtuals (id int PRIMARY KEY, pin text, memo text, loud text GENERATED ALWAYS AS (upper(pin)) '
        || CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'VIRTUAL)' ELSE 'STORED)' END;
END $$;                                                                 -- pin: redact; loud: from a masked column
INSERT INTO virtuals VALUES (1, 'PINZQX95-3', 'a'), (2, 'PINZQX95-4', 'b');

CREATE VIEW customer_view AS SELECT id, name, email, card FROM customers;
CREATE VIEW customer_shout AS SELECT id, upper(card) AS shout, card || '/' || note AS both FROM customers;
CREATE VIEW customer_nested AS SELECT v.id, v.card AS c FROM customer_view v WHERE v.id > 0;
CREATE VIEW customer_stats AS SELECT count(*) AS n, max(card) AS top, string_agg(secret, ',') AS secrets FROM customers;
CREATE VIEW customer_star AS SELECT * FROM customers;
CREATE VIEW order_view AS SELECT * FROM orders;
CREATE VIEW order_totals AS SELECT region, sum(amount) AS total, string_agg(item, ',') AS items FROM orders GROUP BY region;
CREATE VIEW people_view AS SELECT p.phone, p.tableoid::regclass::text AS kind FROM people p;
CREATE MATERIALIZED VIEW customer_cache AS SELECT id, name, card, ssn, secret, salary FROM customers;
CREATE MATERIALIZED VIEW order_cache AS SELECT * FROM orders;

CREATE FUNCTION leak_sql() RETURNS SETOF text LANGUAGE sql AS 'SELECT card FROM customers';
CREATE FUNCTION leak_table() RETURNS TABLE (id int, card text) LANGUAGE sql AS 'SELECT id, card FROM customers';
CREATE FUNCTION leak_plpgsql(wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; BEGIN SELECT secret INTO r FROM customers WHERE customers.id = wanted; RETURN r; END $$;
CREATE FUNCTION leak_dynamic(text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; BEGIN EXECUTE $1 INTO r; RETURN r; END $$;
CREATE FUNCTION leak_definer() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT max(ssn) FROM customers';
CREATE FUNCTION leak_notice() RETURNS void LANGUAGE plpgsql AS $$
DECLARE r text; BEGIN SELECT max(card) INTO r FROM customers; RAISE NOTICE 'card %', r; END $$;
CREATE FUNCTION leak_member(customers) RETURNS text LANGUAGE sql STABLE AS 'SELECT card FROM customers WHERE id = ($1).id';
CREATE PROCEDURE leak_procedure(INOUT r text) LANGUAGE plpgsql AS $$ BEGIN SELECT max(note) INTO r FROM customers; END $$;
CREATE FUNCTION leak_equal(int, int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'card %', (SELECT card FROM public.customers WHERE id = $1); RETURN true; END $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = leak_equal);
CREATE FUNCTION leak_compare(boolean, date) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'card %', (SELECT max(card) FROM public.customers); RETURN true; END $$;
CREATE OPERATOR = (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE OPERATOR <> (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE OPERATOR < (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE OPERATOR <= (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE OPERATOR > (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE OPERATOR >= (LEFTARG = boolean, RIGHTARG = date, FUNCTION = leak_compare);
CREATE FUNCTION leak_names(name, varchar) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'card %', (SELECT max(card) FROM public.customers); RETURN true; END $$;
CREATE OPERATOR = (LEFTARG = name, RIGHTARG = varchar, FUNCTION = leak_names);
CREATE FUNCTION leak_step(text, int) RETURNS text LANGUAGE sql AS 'SELECT coalesce($1, '''') || (SELECT card FROM public.customers WHERE id = $2)';
CREATE AGGREGATE leak_all (int) (SFUNC = leak_step, STYPE = text);
CREATE FUNCTION shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN $1; END $$;
CREATE FUNCTION shout(int) RETURNS int LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN $1; END $$;

CREATE FUNCTION is_secret(text) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.customers WHERE secret = $1)';
CREATE DOMAIN guess AS text CHECK (NOT is_secret(VALUE));              -- answers guesses
CREATE DOMAIN guess_again AS text CHECK (VALUE::guess IS NOT NULL);
CREATE TYPE guessed AS (id int, value guess);
CREATE TABLE guesses (id int PRIMARY KEY, one guess, several guess[], whole guessed);
INSERT INTO guesses VALUES (1, 'x', '{y}', '(1,z)');

CREATE SCHEMA scratch;
CREATE SCHEMA other;
CREATE TABLE other.customers (id int, card text);
INSERT INTO other.customers VALUES (1, 'plain');
CREATE FUNCTION other.shout(text) RETURNS text LANGUAGE sql AS 'SELECT max(card) FROM public.customers'; -- no rule has it
ANALYZE;
