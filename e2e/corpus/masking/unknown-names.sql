-- Names that do not exist: the error is the server's, whoever raises it.

-- works: an unknown column is the server's error
SELECT nosuch FROM customers;

-- works: an unknown column of a plain table
SELECT nosuch FROM other.customers;

-- works: an unknown function is the server's error
SELECT nosuch(1);

-- works: an unknown relation is the server's error
SELECT 1 FROM nosuch;

-- works: an unknown type is the server's error
SELECT 'x'::nosuch;

-- works: an unknown operator is the server's error
SELECT 1 <<<>>> 2;

-- works: an unknown alias is the server's error
SELECT nosuch.id FROM customers c;

-- works: an unknown column in a write
UPDATE other.customers SET nosuch = 1;

-- works: an unknown column in a masked write
UPDATE customers SET nosuch = 1;

-- works: an unknown column in the condition of a write
DELETE FROM people WHERE nosuch = 1;

-- works: an ambiguous column
SELECT id FROM customers, orders;

-- works: a missing FROM item
SELECT customers.id FROM customers c;

-- works: not grouped
SELECT card, count(*) FROM customers;

-- works: not in GROUP BY
SELECT card, count(*) FROM customers GROUP BY note;
