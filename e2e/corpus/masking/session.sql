-- Ways around by the session: settings, notifications, locks.

-- leak works: into a setting and back
SELECT set_config('app.x', card, false) FROM customers WHERE id = 1;
SELECT current_setting('app.x');
SHOW app.x;

-- leak works: into a setting, as rows of pg_settings
SELECT set_config('app.y', secret || code, false) FROM customers WHERE id = 1;
SELECT card FROM customers;

-- leak works: a notification's payload
LISTEN news;
SELECT pg_notify('news', card) FROM customers WHERE id = 1;
SELECT 1;

-- refused: a computed channel that no rule names
SELECT pg_notify('pi' || 'ns', 'x');

-- leak: a notification's channel
SELECT pg_notify(note, '') FROM customers WHERE id = 1;
SELECT note FROM customers;

-- leak: the application's name
SELECT set_config('application_name', card, false) FROM customers WHERE id = 1;
SHOW application_name;

-- leak: a parameter that is reported
SELECT set_config('IntervalStyle', 'iso_8601', false), card FROM customers WHERE id = 1;

-- leak: DateStyle as an oracle, and the value
SET DateStyle = 'German, DMY';
SELECT birth FROM customers;

-- leak works: bytea_output
SET bytea_output = 'escape';
SELECT blob FROM customers;

-- leak works: extra_float_digits
SET extra_float_digits = 3;
SELECT balance::float8, salary::float4 FROM customers;

-- leak: another role
SET ROLE admin;
SELECT card FROM customers;

-- leak: another authorization
SET SESSION AUTHORIZATION DEFAULT;
SELECT card FROM customers;

-- leak: row_security
SET row_security = off;
SELECT item FROM orders;

-- leak: session_replication_role
SET session_replication_role = replica;
SELECT card FROM customers;

-- leak works: after RESET ALL
RESET ALL;
SELECT card FROM customers;

-- leak works: after DISCARD ALL
DISCARD ALL;
SELECT card FROM customers;

-- leak works: after DISCARD PLANS
SELECT card FROM customers;
DISCARD PLANS;
SELECT card FROM customers;

-- leak: advisory locks keep a number
SELECT pg_advisory_lock(salary) FROM customers WHERE id = 1;
SELECT objid, classid, salary FROM pg_locks, customers WHERE locktype = 'advisory';

-- leak: pg_sleep by the value is timing only
SELECT pg_sleep(salary * 0.0) , salary FROM customers WHERE id = 1;

-- leak: a seed of random
SELECT setseed(0.1), card FROM customers WHERE id = 1;

-- leak: client_min_messages
SET client_min_messages = debug1;
SELECT card FROM customers;

-- leak: constraint_exclusion and the like
SET enable_seqscan = off;
SELECT card FROM customers WHERE id = 1;

-- leak works: a transaction with modes
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE;
SELECT card FROM customers;
COMMIT;

-- leak: a two-phase commit
BEGIN;
UPDATE customers SET visits = visits WHERE id = 1 RETURNING card;
PREPARE TRANSACTION 'x';
ROLLBACK PREPARED 'x';

-- refused: search_path by set_config where it may not run
SELECT set_config('search_path', 'other', false) WHERE false;

-- refused: search_path by set_config in a branch
SELECT CASE WHEN false THEN set_config('search_path', 'other', false) END;

-- refused: search_path by set_config twice
SELECT set_config('search_path', 'other', false), set_config('search_path', 'public', false);

-- refused: search_path by set_config with a computed scope
SELECT set_config('search_path', 'other', 1 = 1);

-- refused: search_path by set_config in EXPLAIN ANALYZE
EXPLAIN ANALYZE SELECT set_config('search_path', 'other', false);

-- refused: search_path by set_config in PREPARE
PREPARE p AS SELECT set_config('search_path', 'other', false);

-- refused: search_path by set_config in a cursor
BEGIN;
DECLARE k CURSOR FOR SELECT set_config('search_path', 'other', false);
COMMIT;

-- refused: search_path by set_config in COPY
COPY (SELECT set_config('search_path', 'other', false)) TO STDOUT;

-- refused: search_path by set_config in a table that is made
CREATE TEMP TABLE t AS SELECT set_config('search_path', 'other', false);

-- refused: search_path by set_config in a write
INSERT INTO other.customers SELECT 5, set_config('search_path', 'other', false);

-- refused: search_path by set_config in an argument of EXECUTE
PREPARE p (text) AS SELECT $1;
EXECUTE p (set_config('search_path', 'other', false));

-- leak works: search_path by set_config, as pg_dump sends it
SELECT pg_catalog.set_config('search_path', '', false);
SELECT card FROM public.customers;

-- leak works: settings by set_config
SELECT set_config('app.tenant', '7', true), set_config('TimeZone', 'UTC', false);
SELECT seen FROM customers;

-- works: a setting that takes any value, from a query
SELECT set_config('TimeZone', v, false) FROM (VALUES ('Asia/Tokyo')) AS t (v);
SHOW TimeZone;

-- refused: the server's log, as messages
SET client_min_messages = log;
