-- UPDATE: what it reads, what it returns, and that it destroys nothing.

-- leak works: RETURNING a masked column
UPDATE customers SET visits = visits + 1 WHERE id = 1 RETURNING card;

-- leak works: RETURNING everything
UPDATE customers SET visits = visits + 1 WHERE id = 1 RETURNING *;

-- leak works: RETURNING the row
UPDATE customers c SET visits = visits + 1 WHERE id = 1 RETURNING c;

-- leak works: RETURNING JSON of the row
UPDATE customers c SET visits = visits + 1 WHERE id = 1 RETURNING to_jsonb(c);

-- leak works: RETURNING an expression
UPDATE customers SET visits = visits + 1 WHERE id = 1 RETURNING upper(card) || note, salary + 1;

-- leak works: a masked column into a plain one
UPDATE customers SET name = card WHERE id = 1 RETURNING name;

-- leak works: a masked column into a plain one, read later
UPDATE customers SET name = card WHERE id = 1;
SELECT name FROM customers WHERE id = 1;

-- leak works: through an expression
UPDATE customers SET name = encode(card::bytea, 'hex') WHERE id = 1 RETURNING name;

-- leak: a number into a plain one
UPDATE customers SET visits = length(secret) WHERE id = 1 RETURNING visits, secret;

-- leak works: several columns at once
UPDATE customers SET (name, region) = (card, note) WHERE id = 1 RETURNING name, region;

-- leak: several columns from a subquery
UPDATE customers SET (name, region) = (SELECT card, note FROM customers c WHERE c.id = 2) WHERE id = 1 RETURNING name, region;

-- leak works: FROM another relation
UPDATE other.customers o SET card = c.card FROM customers c WHERE c.id = o.id RETURNING o.card, c.note;

-- leak works: FROM, with masks on both sides
UPDATE customers c SET name = p.token FROM payments p WHERE p.id = c.id RETURNING c.name, c.card, p.token;

-- leak works: a subquery in the value
UPDATE other.customers SET card = (SELECT max(card) FROM customers) RETURNING card;

-- leak succeeds: an ORM saves the whole row
UPDATE customers SET name = 'new', email = 'm***@example.com', card = '**********0001', note = '***********', label = 'confidential', birth = '1937-01-01', balance = 918000, salary = 0 WHERE id = 1 RETURNING *;
SELECT * FROM customers WHERE id = 1;

-- leak works: a column of its own kept
UPDATE customers SET card = card, note = note, salary = salary WHERE id = 1 RETURNING card, note, salary;

-- leak works: COALESCE keeps it
UPDATE customers SET card = COALESCE(NULL, card), note = CASE WHEN true THEN note ELSE 'x' END WHERE id = 1 RETURNING card, note;

-- leak works overwrites: a new value is stored
UPDATE customers SET note = 'a new note' WHERE id = 1 RETURNING note, card;

-- leak: arithmetic on it would store the mask
UPDATE customers SET salary = salary + 0 WHERE id = 1 RETURNING salary;
SELECT salary FROM customers WHERE id = 1;

-- leak: concatenation on it would store the mask
UPDATE customers SET note = note || '!' WHERE id = 1 RETURNING note;
SELECT note FROM customers WHERE id = 1;

-- leak: one masked column into another
UPDATE customers SET note = card WHERE id = 1 RETURNING note;
SELECT note FROM customers WHERE id = 1;

-- leak works: optimistic locking by what was read
UPDATE customers SET visits = 9 WHERE id = 1 AND card = '**********0001' RETURNING card;
SELECT card FROM customers WHERE id = 1;

-- same: a guess in the condition
UPDATE customers SET visits = 9 WHERE id = 1 AND card = 'CARDZQX81-0001' RETURNING id;

-- same: a guess by a pattern
UPDATE customers SET visits = 9 WHERE id = 1 AND note LIKE 'NOTE%' RETURNING id;

-- same: a guess by a number
UPDATE customers SET visits = 9 WHERE id = 1 AND salary > 900000000 RETURNING id;

-- same: a guess by a subquery
UPDATE customers SET visits = 9 WHERE id = 1 AND EXISTS (SELECT 1 FROM customers d WHERE d.secret IS NOT NULL) RETURNING id;

-- same: a guess in the value
UPDATE customers SET visits = CASE WHEN card LIKE 'CARD%' THEN 100 ELSE 200 END WHERE id = 1 RETURNING visits;

-- leak: an error in the value
UPDATE customers SET visits = card::int WHERE id = 1;

-- same: an error in the value as an oracle
UPDATE customers SET visits = 1 / (salary - 918273645) WHERE id = 1;

-- leak: an error in the condition
UPDATE customers SET visits = 1 WHERE id = 1 AND note::int > 0;

-- leak: an error in RETURNING
UPDATE customers SET visits = 1 WHERE id = 1 RETURNING card::int;

-- leak refused: a hidden column into a plain one
UPDATE customers SET name = ssn WHERE id = 1 RETURNING name;

-- leak: a CHECK that is shared with a masked column
UPDATE vault SET amount = 918273645 WHERE id = 1;

-- refused: the same CHECK, by a default
UPDATE vault SET amount = DEFAULT WHERE id = 1;

-- leak works: the same CHECK, with nothing changed
UPDATE vault SET amount = amount WHERE id = 1 RETURNING pin;

-- leak works: ONLY, with a child
UPDATE ONLY people SET name = phone RETURNING name;

-- leak works: the child's column by the child
UPDATE managers SET name = bonus::text RETURNING name, phone;

-- leak works: a CTE that writes and is read
WITH x AS (UPDATE customers SET visits = visits RETURNING card, note) SELECT * FROM x;

-- leak works: a write in a CTE of INSERT
WITH x AS (UPDATE customers SET visits = visits RETURNING id, card) INSERT INTO other.customers SELECT * FROM x RETURNING card;

-- leak works: the alias is named as another relation
UPDATE customers AS orders SET visits = visits WHERE orders.id = 1 RETURNING orders.card;

-- leak works: a row from a subquery that reads the target
UPDATE customers SET (name, region) = (SELECT customers.card, customers.note) WHERE id = 1 RETURNING name, region;

-- works overwrites: a row from a subquery, with a value for a masked column
UPDATE customers SET (name, card) = (SELECT 'x', 'CARDNEW-1') WHERE id = 1 RETURNING name, visits;

-- works: a row from a subquery that saves the mask
UPDATE customers SET (visits, note) = (SELECT 9, repeat('*', 11)) WHERE id = 1 RETURNING visits, note;

-- leak works: a row from a subquery without a row
UPDATE customers SET (visits, secret) = (SELECT 9, 'x' WHERE false) WHERE id = 1 RETURNING visits, secret, card;

-- leak refused: a row from a subquery that computes a masked column from a mask
UPDATE customers SET (name, note) = (SELECT c.card, c.note || c.card FROM customers c WHERE c.id = 2) WHERE id = 1 RETURNING name, note;

-- refused: a row from a subquery into a filter's column
UPDATE orders SET (region, item) = (SELECT 'us', 'x') WHERE id = 1;

-- works: a row from a subquery in an upsert
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'CARDNEW-1') ON CONFLICT (id) DO UPDATE SET (name, region) = (SELECT excluded.name, 'eu') RETURNING name;

-- leak works: fields of the target's row
UPDATE customers SET name = (customers).email, region = coalesce((customers.*)::text, 'x') WHERE id = 1 RETURNING (customers).card, (customers).name;

-- leak works: an element of a field of the target's row
UPDATE customers AS c SET name = 'x' WHERE (c).id = 1 RETURNING (c).tags[1], (c).doc['k'], (c).card;
