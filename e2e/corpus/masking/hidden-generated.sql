-- Hidden columns, and columns that are generated from masked ones.

-- leak refused: the hidden column
SELECT ssn FROM customers;

-- leak refused: qualified
SELECT c.ssn FROM customers c;

-- leak refused: by parentheses
SELECT (c).ssn FROM customers c;

-- leak refused: by function notation
SELECT ssn(c) FROM customers c;

-- leak works: the row has no such field
SELECT c::text FROM customers c;

-- leak works: nor has its JSON
SELECT to_jsonb(c) ->> 'ssn', to_jsonb(c) FROM customers c;

-- leak refused: in a predicate
SELECT id, (SELECT max(d.ssn) FROM customers d) FROM customers c WHERE ssn IS NOT NULL;

-- leak refused: in RETURNING
UPDATE customers SET visits = visits WHERE id = 1 RETURNING ssn;

-- leak works: RETURNING everything
UPDATE customers SET visits = visits WHERE id = 1 RETURNING *;

-- leak refused: as the source of an assignment
UPDATE customers SET name = ssn WHERE id = 1 RETURNING name;

-- leak refused: through a USING join
SELECT a.ssn FROM customers a JOIN customers b USING (ssn);

-- leak refused: in a COPY list
COPY customers (id, ssn) TO STDOUT;

-- leak works: COPY of the table
COPY customers TO STDOUT;

-- leak works: a generated column
SELECT card_lower FROM customers;

-- leak works: a generated column in an expression
SELECT upper(card_lower) FROM customers;

-- leak works: a generated column, returned
UPDATE customers SET visits = visits WHERE id = 1 RETURNING card_lower;

-- leak: its statistics
SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'customers' AND attname = 'card_lower';

-- leak: CTE column names do not bring it back
WITH x (a, b, c, d, e) AS (SELECT * FROM customers) SELECT e FROM x;

-- leak: an alias list does not bring it back
SELECT x5 FROM customers AS c (x1, x2, x3, x4, x5);

-- leak: NATURAL join with itself
SELECT * FROM customers NATURAL JOIN (SELECT id, ssn FROM customers) s;

-- leak: ORDER BY a hidden column
SELECT id, card FROM customers ORDER BY ssn;
