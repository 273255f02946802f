-- INSERT: what it reads, what it returns, what it tells.

-- leak works: INSERT … SELECT … RETURNING
INSERT INTO customers (id, name, card) SELECT id + 100, card, card FROM customers RETURNING *;

-- leak works: a masked value does not become plain
INSERT INTO customers (id, name, card) SELECT id + 100, card, 'nothing' FROM customers;
SELECT name FROM customers;

-- leak works: into a table without masks
INSERT INTO other.customers SELECT id, card FROM customers RETURNING card;
SELECT card FROM other.customers;

-- leak works: a subquery in VALUES
INSERT INTO customers (id, name, card) VALUES (100, (SELECT card FROM customers WHERE id = 1), 'nothing') RETURNING name;

-- leak works: TABLE as a source
INSERT INTO people SELECT id + 10, card, note FROM customers RETURNING name;

-- leak: RETURNING the row
INSERT INTO audited VALUES (10, 'x', 'y') RETURNING audited, (SELECT max(card) FROM customers);

-- leak works: ON CONFLICT DO UPDATE returns what is there
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT (id) DO UPDATE SET visits = 5 RETURNING *;

-- leak works: ON CONFLICT copies what is there
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT (id) DO UPDATE SET name = customers.card RETURNING name;

-- leak works: ON CONFLICT with a condition that asks
INSERT INTO customers AS c (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT (id) DO UPDATE SET visits = 6 WHERE c.card LIKE '%0001' RETURNING card;

-- same: ON CONFLICT as an oracle
INSERT INTO customers AS c (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT (id) DO UPDATE SET visits = 6 WHERE c.salary = 918273645 RETURNING id;

-- leak works overwrites: ON CONFLICT stores a new value, and it is masked
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'brand-new-1234') ON CONFLICT (id) DO UPDATE SET card = excluded.card RETURNING card, note;

-- leak works: ON CONFLICT DO NOTHING, then read
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'placeholder') ON CONFLICT DO NOTHING RETURNING card;
SELECT card FROM customers WHERE id = 1;

-- leak works: ON CONFLICT saves the mask back
INSERT INTO customers (id, name, card) SELECT id, name, card FROM customers ON CONFLICT (id) DO UPDATE SET card = excluded.card RETURNING card;

-- leak works: RETURNING a subquery over the same table
INSERT INTO other.customers VALUES (9, 'x') RETURNING (SELECT string_agg(card, ',') FROM customers);

-- leak works: a CTE that writes
WITH x AS (INSERT INTO other.customers SELECT id, note FROM customers RETURNING card) SELECT * FROM x;

-- leak: a unique violation with a key
INSERT INTO customers (id, name, card, email) SELECT 50, 'x', 'placeholder', email FROM (SELECT email FROM customers LIMIT 1) s;
SELECT email FROM customers WHERE id = 1;

-- leak works: without a column list, values do not shift
INSERT INTO people SELECT 77, 'x', max(phone) FROM people RETURNING name, phone;

-- leak works: DEFAULT VALUES elsewhere, and a read
INSERT INTO other.customers DEFAULT VALUES;
SELECT secret FROM customers;

-- leak works: COPY FROM, then read
COPY other.customers FROM STDIN;
SELECT card FROM customers;

-- leak: OVERRIDING
INSERT INTO customers (id, name, card) OVERRIDING USER VALUE SELECT 200, note, 'placeholder' FROM customers LIMIT 1 RETURNING name;
