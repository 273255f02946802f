-- EXPLAIN.

-- leak works: of a constant that the planner folds
EXPLAIN (COSTS off) SELECT 1;
SELECT card FROM customers;

-- leak works: ANALYZE, VERBOSE
EXPLAIN (ANALYZE, VERBOSE, TIMING off) SELECT card FROM customers;
SELECT card FROM customers;

-- same: no counts do either
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT count(*) FROM orders WHERE amount > 100;

-- same: nor JSON
EXPLAIN (ANALYZE, FORMAT json, TIMING off, SUMMARY off) SELECT * FROM orders WHERE item LIKE 'OUT%';

-- leak: an error in EXPLAIN ANALYZE
EXPLAIN ANALYZE SELECT card::int FROM customers;

-- leak: a constant subquery that is run at plan time
EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM customers WHERE shout(card) = (SELECT max(card) FROM customers);

-- leak: EXPLAIN ANALYZE of a write is a write
BEGIN;
EXPLAIN (ANALYZE, VERBOSE, COSTS off) UPDATE customers SET visits = visits + 1 WHERE id = 1 RETURNING card;
SELECT card FROM customers WHERE id = 1;
ROLLBACK;

-- leak: auto_explain by settings
SET auto_explain.log_min_duration = 0;
SET client_min_messages = debug5;
SELECT card FROM customers;

-- leak: the planner's own debugging
SET debug_print_plan = on;
SET client_min_messages = log;
SELECT card FROM customers WHERE card <> 'x';

-- leak: the log, as messages
SET log_statement = 'all';
SET client_min_messages = log;
SELECT card FROM customers WHERE id = 1;
