-- Window functions and ORDER BY.

-- leak works: lag and lead
SELECT lag(card) OVER (ORDER BY id), lead(card) OVER (ORDER BY id) FROM customers;

-- leak works: first_value
SELECT first_value(note) OVER (PARTITION BY region ORDER BY id) FROM customers;

-- leak works: nth_value of a named window
SELECT nth_value(card, 1) OVER w FROM customers WINDOW w AS (ORDER BY id);

-- leak works: an aggregate as a window
SELECT string_agg(card, ',') OVER (ORDER BY id), max(salary) OVER () FROM customers;

-- same works: rank by it
SELECT id, rank() OVER (ORDER BY salary), dense_rank() OVER (ORDER BY balance) FROM customers ORDER BY id;

-- same works: a range over it
SELECT id, count(*) OVER (ORDER BY salary RANGE BETWEEN 10 PRECEDING AND CURRENT ROW) FROM customers ORDER BY id;

-- same works: PARTITION BY it
SELECT id, count(*) OVER (PARTITION BY birth) FROM customers ORDER BY id;

-- leak works: ORDER BY it
SELECT card FROM customers ORDER BY card DESC;

-- leak works: ORDER BY its number
SELECT card FROM customers ORDER BY 1;

-- leak works: ORDER BY its alias
SELECT card AS x FROM customers ORDER BY x;

-- same works: ORDER BY it as an oracle
SELECT id FROM customers ORDER BY note = 'NOTEZQX83-3' DESC, id;

-- same works: ORDER BY with CASE
SELECT id FROM customers ORDER BY CASE WHEN card = 'CARDZQX81-0004' THEN 0 ELSE 1 END, id;

-- same works: ORDER BY USING
SELECT id FROM customers ORDER BY secret USING >, id;

-- leak works: DISTINCT with an order
SELECT DISTINCT note FROM customers ORDER BY note;

-- leak works: row_number over everything
SELECT row_number() OVER (), c.* FROM customers c;
