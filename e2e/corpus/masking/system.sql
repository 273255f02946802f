-- What the server itself knows of values: statistics, other sessions, files, large objects.

-- leak: pg_stats
SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'customers';

-- leak: pg_stats as rows
SELECT s FROM pg_stats s WHERE tablename = 'customers';

-- leak: pg_stats as JSON
SELECT json_agg(s) FROM pg_catalog.pg_stats s WHERE tablename = 'payments';

-- leak: COPY of pg_stats
COPY (SELECT * FROM pg_stats WHERE schemaname = 'public') TO STDOUT;

-- leak: statistics of rows outside the filter
SELECT most_common_vals FROM pg_stats WHERE tablename = 'orders';

-- leak: pg_prepared_xacts has nothing, the table does
SELECT * FROM pg_prepared_xacts;
SELECT card FROM customers;

-- leak: a file that was written
COPY customers (card) TO '/tmp/postern-e2e-never';
SELECT card FROM customers;

-- leak: a program
COPY customers (card) TO PROGRAM 'cat';
SELECT card FROM customers;

-- leak: a large object made of it
SELECT lo_from_bytea(424242, convert_to(card, 'UTF8')) FROM customers WHERE id = 1;
SELECT convert_from(lo_get(424242), 'UTF8');
SELECT lo_unlink(424242);

-- leak: pg_get_viewdef with a value in it
CREATE VIEW scratch.w AS SELECT 'x' AS y;
SELECT card FROM customers;

-- leak: the text of the current query
SELECT current_query(), card FROM customers WHERE id = 1;

-- leak: activity, with a read
SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();
SELECT card FROM customers;

-- leak: extended statistics
CREATE STATISTICS scratch.s (mcv) ON card, note FROM customers;
ANALYZE customers;
SELECT most_common_vals FROM pg_stats_ext WHERE statistics_name = 's';

-- leak: constants in a default
SELECT adbin FROM pg_attrdef;
SELECT card FROM customers;

-- leak: EXPLAIN of a histogram
EXPLAIN SELECT * FROM customers WHERE card < 'CARD';
SELECT card FROM customers;

-- leak: ANALYZE VERBOSE
ANALYZE VERBOSE customers;
SELECT card FROM customers;

-- leak: binary upgrade, pageinspect and the like are functions
SELECT pg_read_file('PG_VERSION');
SELECT card FROM customers;

-- same: rows outside the filter that an index found, counted in the open transaction
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT id FROM orders WHERE customer_id = 4;
SELECT coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'orders';
ROLLBACK;

-- same: whether a new value of an indexed column is the stored one, told by the kind of the update
BEGIN;
UPDATE payments SET token = 'TOKENZQX94-9' WHERE id = 1;
SELECT coalesce(n_tup_hot_upd, 1) FROM pg_stat_xact_all_tables WHERE relname = 'payments';
ROLLBACK;

-- refused: conflicts of serializable transactions, by predicate locks on rows outside the filter
BEGIN ISOLATION LEVEL SERIALIZABLE;

-- refused: the same for the transaction that is open
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE;

-- refused: the same for all transactions
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;

-- refused: the same by a setting
SET default_transaction_isolation TO serializable;

-- refused: the same by a function
SELECT set_config('transaction_isolation', 'Serializable', true);

-- refused: rows that an index drops by how many there are, those outside the filter included
SET gin_fuzzy_search_limit = 1;

-- works: other levels, and all rows of an index
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL gin_fuzzy_search_limit = 0;
RESET default_transaction_isolation;
ROLLBACK;

-- refused: how much of a stored value a guess repeats, told by the length of the log
SELECT pg_current_wal_insert_lsn();

-- refused: the same in a function that takes it
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0');

-- works: counters of other relations
SELECT relname, n_tup_upd FROM pg_stat_xact_user_tables ORDER BY 1 LIMIT 0;
SELECT datname FROM pg_stat_database WHERE datname = 'postgres';
SELECT locktype FROM pg_locks WHERE pid = 0;
SELECT indexrelname, idx_scan FROM pg_stat_user_indexes LIMIT 0;
SELECT attmissingval FROM pg_attribute LIMIT 0;
