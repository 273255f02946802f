-- Names: quoting, schemas, shadows.

-- leak works: quoted
SELECT "card" FROM "customers";

-- leak works: quoted with its schema
SELECT "public"."customers"."card" FROM "public"."customers";

-- leak works: upper case folds
SELECT CARD FROM PUBLIC.CUSTOMERS;

-- leak works: Unicode escapes
SELECT U&"\0063ard" FROM U&"\0063ustomers";

-- leak works: Unicode escapes with another escape
SELECT U&"!0063ard" UESCAPE '!' FROM customers;

-- leak works: with the database
SELECT card FROM customers AS "customers ";

-- leak works: an odd name
SELECT "Select" FROM "Odd ""Name";

-- leak works: an odd name's row
SELECT o, to_json(o) FROM "Odd ""Name" o;

-- leak works: an alias that is another table
SELECT orders.card FROM customers AS orders;

-- leak works: an alias that is its own name
SELECT customers.card FROM customers AS customers;

-- leak works: an alias that is a keyword
SELECT "select".card FROM customers AS "select";

-- leak works: an alias in Unicode
SELECT "ünï".card FROM customers AS "ünï";

-- leak works: search_path with another schema first
SET search_path = nosuch, public;
SELECT card FROM customers;

-- leak works: search_path that is empty
SET search_path = '';
SELECT card FROM public.customers;

-- leak works: search_path with pg_catalog last
SET search_path = public, pg_catalog;
SELECT upper(card) FROM customers;

-- leak works: search_path that is set locally and rolled back
BEGIN;
SET LOCAL search_path = other;
SELECT card FROM customers;
ROLLBACK;
SELECT card FROM customers;

-- leak works: search_path that is committed
BEGIN;
SET search_path = other, public;
COMMIT;
SELECT card FROM customers;
SET search_path = public;
SELECT card FROM customers;

-- leak works: search_path by set_config
SELECT set_config('search_path', 'public', false);
SELECT card FROM customers;

-- leak works: search_path by set_config, within the transaction only
BEGIN;
SELECT set_config('search_path', 'other', true);
SELECT card FROM customers;
COMMIT;
SELECT card FROM customers;

-- leak works: search_path after a savepoint
BEGIN;
SAVEPOINT a;
SET search_path = other;
ROLLBACK TO a;
SELECT card FROM customers;
COMMIT;

-- leak works: search_path after an error
BEGIN;
SET search_path = other;
SELECT 1 / 0;
ROLLBACK;
SELECT card FROM customers;

-- leak works: RESET search_path
SET search_path = other;
RESET search_path;
SELECT card FROM customers;

-- leak works: in one message
SET search_path = other; SET search_path = public; SELECT card FROM customers;

-- leak works: a set_config in one message with the read
SELECT set_config('search_path', 'other', false); SELECT card FROM public.customers;

-- leak works: pg_temp in the search_path
CREATE TEMP TABLE customers (card text);
SET search_path = public, pg_temp;
SELECT card FROM customers;

-- leak works: a temporary view of the name
CREATE TEMP VIEW orders AS SELECT 'x' AS card;
SELECT card FROM customers;

-- leak works: a relation renamed under it
BEGIN;
ALTER TABLE other.customers RENAME TO moved;
SET LOCAL search_path = other, public;
SELECT card FROM customers;
ROLLBACK;

-- leak: the masked one renamed
BEGIN;
ALTER TABLE customers RENAME TO harmless;
SELECT card FROM harmless;
ROLLBACK;

-- leak: its column renamed
BEGIN;
ALTER TABLE customers RENAME COLUMN card TO harmless;
SELECT harmless FROM customers;
ROLLBACK;

-- leak: moved to another schema
BEGIN;
ALTER TABLE customers SET SCHEMA scratch;
SELECT card FROM scratch.customers;
ROLLBACK;

-- leak works: a comment in the middle
SELECT/* x */card/* FROM other */FROM/**/customers;

-- leak works: a nested comment
SELECT card /* /* */ FROM other.customers -- */ FROM customers;

-- leak works: a dollar quote beside it
SELECT $a$ ; SELECT $a$, card FROM customers;

-- leak works: an escape string beside it
SELECT E'\'; --', card FROM customers;

-- leak works: with standard_conforming_strings as it must be
SELECT '\', card, '''' FROM customers;

-- leak table works: two tables of one name in one FROM
SELECT public.customers.id, public.customers.card, other.customers.card FROM public.customers JOIN other.customers ON other.customers.id = public.customers.id;

-- leak table works: the outer of two tables of one name, from the query within
SELECT id, card FROM public.customers WHERE EXISTS (SELECT FROM other.customers WHERE other.customers.id = public.customers.id) ORDER BY id;

-- table works: the inner of two tables of one name
SELECT id, card FROM other.customers WHERE EXISTS (SELECT FROM public.customers WHERE public.customers.id = other.customers.id + 1);

-- leak works: stars and rows of two tables of one name
SELECT other.customers.*, public.customers.* FROM other.customers, public.customers WHERE public.customers.id < 3 ORDER BY public.customers.id;

-- leak works: a star of a table that is named with its schema
SELECT public.customers.* FROM public.customers ORDER BY 1;

-- leak works: a row that keeps its name beside another of the name
SELECT customers FROM public.customers WHERE EXISTS (SELECT FROM other.customers WHERE other.customers.id = public.customers.id);

-- leak table works: an alias within that is the name of the table around
SELECT id, card FROM public.customers WHERE EXISTS (SELECT FROM other.customers AS customers WHERE customers.id = public.customers.id) ORDER BY id;

-- leak table works: a CTE within that is the name of the table around
WITH customers AS (SELECT 2 AS id) SELECT id, card FROM public.customers WHERE EXISTS (SELECT FROM customers WHERE customers.id = public.customers.id);

-- leak table works: locked by the name that it has for the client
SELECT public.customers.card FROM public.customers, other.customers WHERE public.customers.id = other.customers.id FOR UPDATE OF customers;

-- leak table works: a write beside a table of its name
UPDATE public.customers SET visits = 7 WHERE public.customers.id IN (SELECT other.customers.id FROM other.customers WHERE other.customers.id = public.customers.id) RETURNING id, card, visits, customers.visits;
SELECT id, visits FROM customers ORDER BY id;

-- leak table works: an upsert beside a table of its name
INSERT INTO public.customers (id, name, card) SELECT id, 'Zoe', 'CARD-0009' FROM other.customers ON CONFLICT (id) DO UPDATE SET visits = customers.visits + (SELECT count(*)::int FROM other.customers WHERE other.customers.id = customers.id) RETURNING id, card, visits;

-- table works: a delete beside a table of its name
DELETE FROM public.customers WHERE EXISTS (SELECT FROM other.customers WHERE other.customers.id = public.customers.id AND public.customers.visits = 4) RETURNING public.customers.id;

-- works: an ambiguous name among tables of one name
SELECT customers.id FROM public.customers, other.customers;

-- leak table works: the proxy's own name, as the client's
SELECT public.customers.card, (SELECT postern_0.card FROM (SELECT 'x' AS card) AS postern_0) FROM public.customers, other.customers WHERE public.customers.id = other.customers.id;
