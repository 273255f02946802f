-- The database that random queries run on. What is masked, hidden or outside a filter holds markers of e2e/src/leak.rs.
-- e2e/tests/differential/generate/mod.rs says the same to the generator.

CREATE TABLE customers (
    id int PRIMARY KEY,
    name text NOT NULL,
    email text,                     -- email
    card text NOT NULL,             -- partial, keeps the last 4
    ssn text,                       -- hidden
    note text,                      -- redact
    secret text,                    -- nullify
    code text,                      -- hash
    label text,                     -- fixed
    birth date,                     -- truncateDate to the year
    seen timestamptz,               -- truncateDate to the hour
    balance numeric(12,2),          -- bucket of 1000
    salary int,                     -- default
    doc jsonb,                      -- nullify
    tags text[],                    -- default
    region text NOT NULL,
    visits int NOT NULL,
    active boolean,
    joined date
);
INSERT INTO customers
SELECT i, (ARRAY['Ada', 'Bob', 'Cyd', 'Dan', 'Eve'])[1 + i % 5], CASE WHEN i % 4 <> 3 THEN 'mailzqx88.' || i || '@example.com' END,
       'CARDZQX81-' || lpad((i % 7)::text, 4, '0'), 'SSNZQX82-' || i, CASE WHEN i % 5 <> 2 THEN 'NOTEZQX83-' || repeat('x', i % 3) END,
       'SECRETZQX84-' || i, 'CODEZQX85-' || i % 3, 'LABELZQX86-' || i, CASE WHEN i % 6 <> 0 THEN date '1937-04-19' + (i % 3) * 365 END,
       CASE WHEN i % 5 <> 4 THEN timestamptz '2021-06-15 13:47:29.123456+00' + (i % 4) * interval '1 hour' END,
       CASE WHEN i % 7 <> 1 THEN 918273.64 + (i % 4) * 1000 END, 918273645, jsonb_build_object('k', 'JSONZQX87', 'n', i), ARRAY['TAGSZQX91', i::text],
       (ARRAY['eu', 'us', 'asia'])[1 + i % 3], i % 4, CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, date '2020-01-30' + i
FROM generate_series(1, 14) AS i;

CREATE TABLE orders (               -- filter: region = 'eu'
    id int PRIMARY KEY,
    customer_id int,
    region text NOT NULL,
    item text NOT NULL,
    amount int NOT NULL,
    placed timestamptz
);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_item ON orders (item);
INSERT INTO orders
SELECT i, 1 + i % 9, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, CASE WHEN i % 2 = 0 THEN (ARRAY['apple', 'bread', 'cheese'])[1 + i % 3] ELSE 'OUTZQX90-' || i END,
       CASE WHEN i % 2 = 0 THEN i % 5 * 10 ELSE 777123 END, CASE WHEN i % 3 <> 0 THEN timestamptz '2022-03-01 08:00:00+00' + i * interval '7 hours' END
FROM generate_series(1, 24) AS i;

CREATE TABLE notes (                -- as it is
    id int PRIMARY KEY,
    parent int,
    body text,
    kind text NOT NULL,
    amount numeric(12,2),
    made date,
    doc jsonb,
    tags text[],
    done boolean
);
INSERT INTO notes
SELECT i, CASE WHEN i > 3 THEN i / 2 END, CASE WHEN i % 4 <> 1 THEN (ARRAY['apple', 'm***@example.com', '**********0001', 'Ada', ''])[1 + i % 5] END,
       (ARRAY['a', 'b'])[1 + i % 2], CASE WHEN i % 5 <> 0 THEN i * 2.50 END, CASE WHEN i % 3 <> 0 THEN date '1937-01-01' + i END,
       CASE WHEN i % 3 <> 1 THEN jsonb_build_object('k', i % 3, 't', 'x' || i) END, CASE WHEN i % 4 <> 0 THEN ARRAY['x', i::text] END, i % 2 = 0
FROM generate_series(1, 12) AS i;

CREATE TABLE people (id int PRIMARY KEY, name text, phone text);    -- phone: redact
CREATE TABLE managers (bonus int, PRIMARY KEY (id)) INHERITS (people); -- bonus: default
INSERT INTO people SELECT i, 'P' || i, CASE WHEN i <> 2 THEN 'PHONEZQX92-' || i END FROM generate_series(1, 4) AS i;
INSERT INTO managers SELECT i, 'M' || i, 'PHONEZQX92-' || i, 827364519 FROM generate_series(5, 7) AS i;

CREATE TABLE events (id int, region text NOT NULL, payload text, level int, PRIMARY KEY (id, region)) PARTITION BY LIST (region); -- payload: nullify; filter: level < 3
CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu');
CREATE TABLE events_us PARTITION OF events FOR VALUES IN ('us');
INSERT INTO events SELECT i, CASE WHEN i % 3 = 0 THEN 'us' ELSE 'eu' END, 'EVENTZQX93-' || i, CASE WHEN i % 4 = 0 THEN 777123 ELSE i % 3 END FROM generate_series(1, 12) AS i;

CREATE TYPE stage AS ENUM ('open', 'shut', 'lost');
CREATE TABLE parcels (id int PRIMARY KEY, order_id int, stage stage NOT NULL, item text NOT NULL, weight numeric(12,2)); -- filter: stage <> 'lost'; item: partial, keeps the first 1
INSERT INTO parcels SELECT i, i, (ARRAY['open', 'shut', 'lost']::stage[])[1 + i % 3], CASE WHEN i % 3 = 2 THEN 'OUTZQX90-p' ELSE 'PINZQX95-' || i END, i * 1.25 FROM generate_series(1, 12) AS i;

CREATE VIEW customer_view AS SELECT id, name, email, card, visits FROM customers;
CREATE VIEW order_view AS SELECT id, customer_id, item, amount, region FROM orders;
CREATE VIEW regions AS SELECT kind AS region, count(*) AS n FROM notes GROUP BY kind;
