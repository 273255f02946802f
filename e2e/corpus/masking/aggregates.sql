-- Aggregates, GROUP BY, HAVING.

-- leak works: string_agg
SELECT string_agg(card, ',') FROM customers;

-- leak works: string_agg with DISTINCT and an order
SELECT string_agg(DISTINCT note, ',' ORDER BY note) FROM customers;

-- leak works: array_agg
SELECT array_agg(card) FROM customers;

-- leak works: min and max
SELECT min(card), max(note), min(salary), max(birth) FROM customers;

-- leak works: sum of one
SELECT sum(salary), avg(balance) FROM customers WHERE id = 1;

-- leak works: with FILTER
SELECT max(card) FILTER (WHERE id = 2) FROM customers;

-- leak works: ordered sets
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY card), mode() WITHIN GROUP (ORDER BY note) FROM customers;

-- leak works: percentile_cont
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY salary) FROM customers;

-- leak works: GROUP BY the column
SELECT card, count(*) FROM customers GROUP BY card;

-- leak works: GROUP BY its number
SELECT note, count(*) FROM customers GROUP BY 1;

-- leak works: GROUP BY the primary key
SELECT c.id, c.card, c.name FROM customers c GROUP BY c.id;

-- leak works: GROUP BY the primary key, with a join
SELECT c.id, c.card, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id;

-- leak works: GROUP BY an expression
SELECT upper(card) FROM customers GROUP BY upper(card);

-- leak works: GROUPING SETS
SELECT card, note, count(*) FROM customers GROUP BY GROUPING SETS ((card), (note), ());

-- leak works: CUBE and ROLLUP
SELECT card, region, count(*) FROM customers GROUP BY CUBE (card), ROLLUP (region);

-- leak works: HAVING
SELECT max(card) FROM customers GROUP BY region HAVING count(*) > 0;

-- same works: HAVING over it
SELECT region FROM customers GROUP BY region HAVING max(card) LIKE 'CARD%';

-- same works: count of distinct
SELECT count(DISTINCT birth), count(DISTINCT note), count(secret), count(DISTINCT salary) FROM customers;

-- same works: sums
SELECT sum(salary), sum(balance), avg(salary), stddev(salary) FROM customers;

-- same works: bool_or as an oracle
SELECT bool_or(card = 'CARDZQX81-0001'), every(salary > 0) FROM customers;

-- leak works: bit_and
SELECT bit_and(salary), bit_or(salary) FROM customers WHERE id < 3;

-- same works: regression
SELECT corr(salary, id), regr_slope(salary, id) FROM customers;

-- leak: an aggregate of the database
SELECT leak_all(id) FROM customers;

-- leak works: a range of values
SELECT int4range(salary, salary, '[]') FROM customers;

-- leak: array of arrays
SELECT array_agg(tags) FROM customers;
