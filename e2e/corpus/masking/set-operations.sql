-- UNION, INTERSECT, EXCEPT.

-- leak works: UNION
SELECT card FROM customers UNION SELECT note FROM customers;

-- leak works: UNION ALL
SELECT name FROM customers UNION ALL SELECT card FROM customers;

-- leak works: INTERSECT with itself
SELECT card FROM customers INTERSECT SELECT card FROM customers;

-- leak works: EXCEPT
SELECT card FROM customers EXCEPT SELECT name FROM customers;

-- leak works: TABLE UNION TABLE
TABLE customers UNION ALL TABLE customers;

-- leak works: a set operation in a subquery
SELECT x FROM (SELECT card x FROM customers UNION SELECT 'a') s ORDER BY 1;

-- leak works: nested
(SELECT card FROM customers EXCEPT SELECT 'b') UNION (SELECT secret FROM customers INTERSECT SELECT secret FROM customers);

-- same works: INTERSECT with guesses
SELECT card FROM customers INTERSECT VALUES ('CARDZQX81-0001'), ('**********0002');

-- same works: EXCEPT of guesses
SELECT 'NOTEZQX83-1' EXCEPT SELECT note FROM customers;

-- leak works: with an order and a limit of its own
(SELECT card FROM customers ORDER BY id LIMIT 1) UNION ALL (SELECT secret FROM customers ORDER BY id DESC LIMIT 1);
