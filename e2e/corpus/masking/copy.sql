-- COPY and its like.

-- leak works: COPY of a query
COPY (SELECT card FROM customers) TO STDOUT;

-- leak works: COPY of a table with masks copies the masked view
COPY customers TO STDOUT;

-- leak works: COPY of columns
COPY customers (id, card, email) TO STDOUT;

-- leak works: as CSV
COPY customers (id, note) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *);

-- leak works: as CSV in the old syntax
COPY customers (card) TO STDOUT CSV;

-- leak works: in binary
COPY customers (id, card, salary, balance, birth) TO STDOUT WITH (FORMAT binary);

-- leak works: COPY of TABLE
COPY (TABLE customers) TO STDOUT;

-- leak works: COPY of VALUES with a subquery
COPY (VALUES ((SELECT card FROM customers WHERE id = 1))) TO STDOUT;

-- leak works: COPY of a write that returns
COPY (UPDATE customers SET visits = visits WHERE id = 1 RETURNING card) TO STDOUT;

-- leak works: COPY of a CTE
COPY (WITH x AS (SELECT secret, code FROM customers) SELECT * FROM x) TO STDOUT;

-- leak works: COPY of an inheritance child
COPY managers TO STDOUT;

-- leak works: COPY of a partition
COPY events_eu TO STDOUT;

-- leak works: COPY of a partitioned table by a query
COPY (SELECT * FROM events) TO STDOUT;

-- leak refused: the hidden column
COPY customers (ssn) TO STDOUT;

-- leak: COPY of a materialized view by a query
COPY (SELECT * FROM customer_cache) TO STDOUT;

-- leak works: COPY of another encoding
COPY customers (card) TO STDOUT WITH (ENCODING 'UTF8');

-- leak works: COPY with a delimiter in the value
COPY customers (id, card) TO STDOUT WITH (DELIMITER '-', NULL 'x');
