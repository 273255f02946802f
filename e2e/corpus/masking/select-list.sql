-- Masked columns as they stand in a select list, under any name.

-- leak works: a column
SELECT card FROM customers WHERE id = 1;

-- leak works: every column
SELECT * FROM customers;

-- leak works: every column of an alias
SELECT c.* FROM customers c;

-- leak works: an alias that looks harmless
SELECT card AS name FROM customers;

-- leak works: an alias of the relation and of its columns
SELECT d FROM customers AS c (a, b, e, d) WHERE a = 1;

-- leak works: a three-part name
SELECT public.customers.card FROM public.customers;

-- leak works: a column qualified by the relation
SELECT customers.card FROM customers;

-- leak works: e-mail
SELECT email FROM customers;

-- leak works: redacted text
SELECT note FROM customers;

-- leak works: a value that is taken away
SELECT secret FROM customers;

-- leak works: a hash
SELECT code FROM customers;

-- leak works: a fixed value
SELECT label FROM customers;

-- leak works: a date
SELECT birth FROM customers;

-- leak works: a point in time
SELECT seen FROM customers;

-- leak works: a bucket
SELECT balance FROM customers;

-- leak works: an integer
SELECT salary FROM customers;

-- leak works: jsonb
SELECT doc FROM customers;

-- leak works: bytes
SELECT blob FROM customers;

-- leak works: an array
SELECT tags FROM customers;

-- leak works: an element of an array
SELECT tags[1] FROM customers;

-- leak works: a slice of an array
SELECT tags[1:1] FROM customers;

-- leak works: the command TABLE
TABLE customers;

-- leak works: without a name
SELECT card, card, card || card FROM customers;

-- leak works: DISTINCT
SELECT DISTINCT note FROM customers;

-- leak works: DISTINCT ON
SELECT DISTINCT ON (visits) card FROM customers ORDER BY visits, card;

-- leak works: LIMIT and OFFSET
SELECT card FROM customers ORDER BY id LIMIT 1 OFFSET 2;

-- leak works: FETCH FIRST
SELECT card FROM customers ORDER BY id FETCH FIRST 2 ROWS ONLY;

-- leak works: FETCH FIRST WITH TIES
SELECT card FROM customers ORDER BY id FETCH FIRST 2 ROWS WITH TIES;

-- leak works: a lock
SELECT card FROM customers WHERE id = 1 FOR UPDATE;

-- leak works: a weaker lock
SELECT card FROM customers c WHERE id = 1 FOR KEY SHARE OF c SKIP LOCKED;

-- leak works: system columns beside it
SELECT ctid, xmin, tableoid, card FROM customers;

-- leak works: several statements in one message
SELECT 1; SELECT card FROM customers; SELECT note FROM customers;

-- same works: all visible columns are what the masks make of them
SELECT id, name, email, card, note, secret, label, birth, seen, balance, salary, doc, blob, tags, card_lower IS NULL OR card_lower = lower(card), region, visits FROM customers ORDER BY id;
