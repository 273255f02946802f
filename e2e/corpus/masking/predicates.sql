-- Predicates see the mask: a guess at the raw value finds nothing.

-- same works: equality
SELECT id FROM customers WHERE card = 'CARDZQX81-0001';

-- same works: equality with the mask
SELECT id FROM customers WHERE card = '**********0002';

-- same works: LIKE
SELECT id FROM customers WHERE note LIKE 'NOTEZQX83%' ORDER BY id;

-- same works: ILIKE, SIMILAR TO, a regular expression
SELECT id FROM customers WHERE card ILIKE 'card%' OR card SIMILAR TO 'CARD%' OR card ~ '^CARD' ORDER BY id;

-- same works: a range
SELECT id FROM customers WHERE salary BETWEEN 918273000 AND 918274000 ORDER BY id;

-- same works: BETWEEN SYMMETRIC
SELECT id FROM customers WHERE balance BETWEEN SYMMETRIC 918274 AND 918273 ORDER BY id;

-- same works: IN
SELECT id FROM customers WHERE note IN ('NOTEZQX83-1', 'NOTEZQX83-2') ORDER BY id;

-- same works: ANY of an array
SELECT id FROM customers WHERE card = ANY ('{CARDZQX81-0001,CARDZQX81-0002}') ORDER BY id;

-- same works: IS NULL
SELECT id FROM customers WHERE secret IS NULL ORDER BY id;

-- same works: IS DISTINCT FROM
SELECT id FROM customers WHERE secret IS DISTINCT FROM 'SECRETZQX84-1' ORDER BY id;

-- same works: a row comparison
SELECT id FROM customers WHERE (id, card) = (1, 'CARDZQX81-0001');

-- same works: containment
SELECT id FROM customers WHERE tags @> '{TAGSZQX91}' OR doc @> '{"k": "JSONZQX87"}';

-- same works: an element
SELECT id FROM customers WHERE 'TAGSZQX91' = ANY (tags);

-- same works: a key
SELECT id FROM customers WHERE doc ? 'k' OR doc ->> 'k' IS NOT NULL;

-- same works: a digest
SELECT id FROM customers WHERE md5(card) = md5('CARDZQX81-0001');

-- same works: a length
SELECT id FROM customers WHERE length(secret) > 0;

-- same works: a date
SELECT id FROM customers WHERE birth = '1937-04-19' OR birth > '1937-01-02';

-- same works: a point in time
SELECT id FROM customers WHERE seen > '2021-06-15 13:30:00+00';

-- same works: bytes
SELECT id FROM customers WHERE blob = 'BLOBZQX89' OR blob IS NOT NULL;

-- same works: a letter
SELECT id FROM customers WHERE substr(card, 5, 1) = 'Z';

-- same works: a CASE
SELECT id FROM customers WHERE CASE WHEN salary > 5 THEN true ELSE false END;

-- same works: a NOT
SELECT id FROM customers WHERE NOT (card LIKE 'CARD%') ORDER BY id;

-- same works: a subquery of VALUES
SELECT id FROM customers WHERE card IN (VALUES ('CARDZQX81-0003'), ('**********0004')) ORDER BY id;

-- same works: counting
SELECT count(*) FROM customers WHERE label = 'LABELZQX86-1';

-- same works: text search
SELECT id FROM customers WHERE to_tsvector('simple', card) @@ to_tsquery('simple', 'cardzqx81');

-- same works: overlap
SELECT id FROM customers WHERE (birth, birth) OVERLAPS (date '1937-04-18', date '1937-04-20');

-- same works: a generated column
SELECT count(*) FROM customers WHERE card_lower LIKE 'card%';

-- same works: a child's column
SELECT id FROM managers WHERE bonus = 827364519;

-- same works: a partition's column
SELECT id FROM events WHERE payload LIKE 'EVENT%';

-- same: a view's column
SELECT id FROM customer_view WHERE card = 'CARDZQX81-0001';

-- same: a view's expression
SELECT id FROM customer_shout WHERE shout LIKE 'CARD%';

-- same works: a whole row
SELECT count(*) FROM customers c WHERE to_jsonb(c) ->> 'card' LIKE 'CARD%';

-- same works: in the ON of a join
SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.id AND c.note LIKE 'NOTE%';

-- same works: in a window's FILTER
SELECT id, count(*) FILTER (WHERE salary > 0) OVER () FROM customers ORDER BY id;
