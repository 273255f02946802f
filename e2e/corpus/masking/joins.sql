-- Joins.

-- leak works: with another table
SELECT o.item, c.card FROM orders o JOIN customers c ON c.id = o.customer_id;

-- leak works: the other way round
SELECT c.card FROM customers c RIGHT JOIN orders o ON c.id = o.customer_id;

-- leak works: FULL JOIN
SELECT c.card, p.token FROM customers c FULL JOIN payments p ON p.id = c.id;

-- leak works: CROSS JOIN
SELECT c.card FROM customers c CROSS JOIN people;

-- leak works: a comma
SELECT card, phone FROM customers c, people p WHERE c.id = p.id;

-- leak works: USING
SELECT card, token FROM customers JOIN payments USING (id);

-- leak works: USING with an alias
SELECT j.id, card FROM customers JOIN payments USING (id) AS j;

-- leak works: NATURAL
SELECT * FROM customers NATURAL JOIN payments;

-- leak works: itself
SELECT a.card, b.card FROM customers a JOIN customers b ON a.id = b.id;

-- leak works: an alias of the join
SELECT j.* FROM (customers c JOIN payments p ON p.id = c.id) AS j (a1, a2, a3, a4, a5);

-- leak works: in parentheses
SELECT card FROM (customers JOIN people USING (id)) JOIN payments USING (id);

-- leak works: everything of both sides
SELECT * FROM customers c LEFT JOIN payments p ON p.customer_email = c.email;

-- same works: joined by masked columns
SELECT c.id, p.id FROM customers c JOIN payments p ON p.customer_email = c.email ORDER BY 1, 2;

-- same works: joined by a guess
SELECT c.id FROM customers c JOIN (VALUES ('CARDZQX81-0002'), ('**********0003')) v(x) ON c.card = v.x;

-- same works: joined by USING on a masked column
SELECT count(*) FROM (SELECT id, note FROM customers) a JOIN (SELECT id, note FROM customers) b USING (note);

-- same works: an anti-join
SELECT v.x FROM (VALUES ('NOTEZQX83-1'), ('***********')) v(x) LEFT JOIN customers c ON c.note = v.x WHERE c.id IS NULL;

-- same works: the row under an outer join
SELECT o.id, c IS NULL FROM orders o LEFT JOIN customers c ON c.id = o.customer_id AND c.card LIKE 'CARD%' ORDER BY 1;
