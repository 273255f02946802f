-- What ORMs, pools, queues and migration tools send, over tables of which some are masked or filtered. Each line is one
-- message; its answer through the gate is that of a database that holds only what the policy shows.

-- reads
SELECT * FROM customers ORDER BY id LIMIT 2;
SELECT "customers".* FROM "customers" WHERE "customers"."id" = 1 LIMIT 1;
SELECT "public"."customers"."id", "public"."customers"."name" FROM "public"."customers" WHERE ("public"."customers"."id" = 1 AND 1=1) LIMIT 1 OFFSET 0;
SELECT c.*, o.id AS order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id ORDER BY c.id, o.id;
SELECT c.id, c.name, c.email, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY c.id;
SELECT count(*) FROM (SELECT DISTINCT c.id FROM customers c INNER JOIN orders o ON o.customer_id = c.id WHERE o.total > 3) subquery;
SELECT (1) AS "a" FROM "orders" WHERE "orders"."customer_id" = 6 LIMIT 1;
SELECT t.id, x.n FROM customers t LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer_id = t.id) x ON true ORDER BY t.id;
SELECT "t1"."id", "o"."data" FROM "public"."customers" AS "t1" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("d"), '[]') AS "data" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id", 'total', "t2"."total") AS "d" FROM (SELECT "t0".* FROM "public"."orders" AS "t0" WHERE "t1"."id" = "t0"."customer_id" ORDER BY id) AS "t2") AS "t3") AS "o" ON TRUE ORDER BY "t1"."id";
SELECT id FROM posts WHERE deleted_at IS NULL ORDER BY id FETCH FIRST 5 ROWS ONLY;
SELECT c.id FROM customers c WHERE c.id IN (1, 2) ORDER BY 1 FOR UPDATE OF c SKIP LOCKED;
SELECT o.id FROM orders o WHERE o.customer_id = 1 ORDER BY o.id FOR NO KEY UPDATE;
SELECT row_to_json(c) FROM customers c WHERE id = 1;

-- writes; what a filter reads may be left to its default
INSERT INTO orders (customer_id, total) VALUES (1, 5), (2, 6.5) RETURNING id, region, state;
INSERT INTO orders (customer_id, total) SELECT id, 7 FROM customers WHERE id < 3 ORDER BY id RETURNING id, total;
INSERT INTO posts (title) VALUES ('three') RETURNING id, deleted_at;
INSERT INTO posts DEFAULT VALUES RETURNING *;
INSERT INTO orders (id, customer_id, region, state, total, placed) VALUES (default, 1, default, default, '5', default) RETURNING customer_id, region, state, total;
INSERT INTO orders (customer_id, region, total) VALUES (1, DEFAULT, 5), (2, 'eu', DEFAULT) RETURNING region, total;
INSERT INTO posts (id, title, deleted_at) VALUES (DEFAULT, 'four', DEFAULT) RETURNING title, deleted_at;
INSERT INTO posts (id, title, deleted_at) VALUES (DEFAULT, DEFAULT, DEFAULT) RETURNING title, deleted_at;
UPDATE orders SET region = DEFAULT, total = total WHERE customer_id = 3 RETURNING id, region;
UPDATE posts SET (title, deleted_at) = ('five', DEFAULT) WHERE id = 1 RETURNING title, deleted_at;
INSERT INTO orders (customer_id, region) VALUES (1, lower('EU')), (2, trim(' eu ')) RETURNING customer_id, region;
INSERT INTO orders (customer_id, region, total) VALUES (1, (SELECT o.region FROM orders o WHERE o.id = 2), 3) RETURNING customer_id, region;
INSERT INTO orders (customer_id, region) VALUES (1, CASE WHEN current_database() IS NULL THEN 'us' ELSE 'eu' END) RETURNING region;
INSERT INTO orders (customer_id, region) VALUES (1, (SELECT o.region FROM orders o));
UPDATE "orders" SET "region" = (CASE WHEN ("orders"."id" = 2) THEN 'eu' WHEN ("orders"."id" = 3) THEN 'eu' ELSE NULL END)::varchar(8) WHERE "orders"."id" IN (2, 3) RETURNING id, region;
UPDATE orders SET region = CASE WHEN id > 0 THEN region ELSE 'us' END, state = 'open' WHERE id = 4 RETURNING id, region, state;
INSERT INTO orders (id, customer_id, region) VALUES (2, 1, lower('EU')) ON CONFLICT (id) DO UPDATE SET region = lower(EXCLUDED.region) RETURNING id, region;
UPDATE posts SET deleted_at = NULLIF(now(), now()), title = 'six' WHERE id = 2 RETURNING title, deleted_at;
WITH one AS (INSERT INTO customers (name) VALUES ('New') RETURNING id) INSERT INTO orders (customer_id, total) SELECT id, 1 FROM one RETURNING customer_id, total;
INSERT INTO customers (name, email, card_number) VALUES ('Zoe', NULL, NULL) RETURNING "customers"."id";
UPDATE "customers" SET "name" = 'b', version = version + 1 WHERE "customers"."id" = 1 AND version = 1 AND name = 'Customer 1';
UPDATE orders SET total = total + 1, state = 'paid' WHERE customer_id = 2 AND state = 'open' AND total < 1000 RETURNING id, total;
UPDATE customers c SET name = o.state::text FROM orders o WHERE o.customer_id = c.id AND c.id = 4 AND o.total < 5;
UPDATE customers SET meta = jsonb_set(meta, '{a}', '1', true) WHERE id = 3 RETURNING meta;
DELETE FROM customers WHERE id = 5 AND version = 1 AND name = 'Customer 5';
DELETE FROM customers USING orders WHERE orders.customer_id = customers.id AND customers.id = 4 AND orders.total >= 0;
DELETE FROM customers WHERE (id = 3 OR name = 'nobody') AND (version = 1 AND (id > 2 AND id < 4));
WITH gone AS (DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE state = 'paid' ORDER BY id LIMIT 2) RETURNING id) SELECT id FROM gone ORDER BY id;
INSERT INTO settings VALUES ('a', '9') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value RETURNING *;
MERGE INTO settings s USING (VALUES ('a', '9'), ('n', '8')) v (k, val) ON s.key = v.k WHEN MATCHED THEN UPDATE SET value = v.val WHEN NOT MATCHED THEN INSERT VALUES (v.k, v.val);

-- queues
UPDATE jobs SET locked_at = '2024-01-01' WHERE id = (SELECT id FROM jobs WHERE locked_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING *;
WITH next AS (SELECT id FROM jobs WHERE locked_at IS NULL ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED) UPDATE jobs j SET locked_at = '2024-01-01' FROM next WHERE j.id = next.id RETURNING j.id, j.job;

-- notifications
LISTEN news;
LISTEN job_1;
SELECT pg_notify('news', 'a constant');
SELECT pg_notify('ne' || 'ws', 'computed');
SELECT pg_notify('job_' || id, 'for each') FROM jobs WHERE id = 1;
UNLISTEN *;

-- sequences
SELECT setval(pg_get_serial_sequence('"orders"','id'), coalesce(max("id"), 1), max("id") IS NOT null) FROM "orders";
SELECT currval(pg_get_serial_sequence('orders', 'id'));
SELECT nextval(pg_get_serial_sequence('public.customers', 'id')::regclass);
SELECT setval('"public"."orders_id_seq"', (SELECT GREATEST(MAX("id"), (SELECT min_value FROM pg_sequences WHERE schemaname = 'public' AND sequencename = 'orders_id_seq')) FROM "orders"), true);
SELECT nextval('orders_id_seq'::regclass);

-- administration tools
SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings() WHERE name = 'bytea_output';
SELECT name FROM pg_catalog.pg_show_all_settings() AS s WHERE s.name = 'work_mem';

-- bulk loads
COPY settings FROM STDIN WITH (FORMAT csv, HEADER on, FREEZE off);
BEGIN; TRUNCATE settings; COPY settings FROM STDIN WITH (FREEZE ON); COMMIT;
BEGIN; TRUNCATE settings; COPY public.settings (key, value) FROM STDIN WITH (FREEZE 1, DELIMITER ';'); COMMIT;
COPY settings TO STDOUT WITH CSV HEADER DELIMITER AS ';' NULL AS 'x' FORCE QUOTE *;
COPY customers TO STDOUT (FORMAT csv, HEADER 1);
COPY orders (id, total) TO STDOUT;

-- pools
DISCARD ALL;
RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP; DISCARD PLANS; SET SESSION AUTHORIZATION DEFAULT; DEALLOCATE ALL;
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; SET extra_float_digits = 3; SET client_min_messages TO 'warning'; SET standard_conforming_strings = on; SET SESSION timezone TO 'UTC';

-- migrations, of which tools send the whole file as one message
CREATE TYPE "Role" AS ENUM ('USER', 'ADMIN'); CREATE TABLE "User" ("id" SERIAL NOT NULL, "mail" TEXT NOT NULL, "role" "Role" NOT NULL DEFAULT 'USER', "tags" "Role"[] DEFAULT '{}', CONSTRAINT "User_pkey" PRIMARY KEY ("id")); CREATE TABLE "Post" ("id" SERIAL NOT NULL, "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "authorId" INTEGER, CONSTRAINT "Post_pkey" PRIMARY KEY ("id")); CREATE UNIQUE INDEX "User_email_key" ON "User"("mail"); ALTER TABLE "Post" ADD CONSTRAINT "Post_authorId_fkey" FOREIGN KEY ("authorId") REFERENCES "User"("id") ON DELETE SET NULL ON UPDATE CASCADE;
DO $$ BEGIN CREATE TYPE "Role" AS ENUM ('USER'); EXCEPTION WHEN duplicate_object THEN null; END $$;
DO 'BEGIN CREATE TYPE "public"."hue" AS ENUM (''red''); EXCEPTION WHEN duplicate_object THEN null; END'; ALTER TABLE "Post" ADD COLUMN "hue" "public"."hue" DEFAULT 'red';
DO $$ BEGIN ALTER TABLE "Post" ADD CONSTRAINT "Post_authorId_fkey" FOREIGN KEY ("authorId") REFERENCES "User"("id"); EXCEPTION WHEN duplicate_object THEN null; END $$;
DO $EF$ BEGIN IF NOT EXISTS(SELECT 1 FROM pg_namespace WHERE nspname = 'app') THEN CREATE SCHEMA app; END IF; END $EF$; DROP SCHEMA app;
DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type t JOIN pg_namespace n ON t.typnamespace = n.oid WHERE t.typname = 'mood' AND n.nspname = ANY (current_schemas(false))) THEN CREATE TYPE "mood" AS ENUM ('sad'); END IF; END $$; CREATE TABLE moody (m mood); INSERT INTO moody VALUES ('sad'); DROP TABLE moody; DROP TYPE mood;
DO $EF$ BEGIN IF NOT EXISTS(SELECT 1 FROM "settings" WHERE "key" = '20240101_Init') THEN CREATE TABLE "Blogs" ("Id" integer GENERATED BY DEFAULT AS IDENTITY, "Url" text); END IF; END $EF$;
DO $EF$ BEGIN IF NOT EXISTS(SELECT 1 FROM "settings" WHERE "key" = '20240101_Init') THEN INSERT INTO "settings" ("key", "value") VALUES ('20240101_Init', '8.0'); END IF; END $EF$;
INSERT INTO "Blogs" ("Url") VALUES ('a') RETURNING "Id"; SELECT value FROM settings WHERE key = '20240101_Init'; DROP TABLE "Blogs";
DO $$ BEGIN IF EXISTS (SELECT FROM customers WHERE id = 2) THEN UPDATE customers SET name = email WHERE id = 2; END IF; IF (SELECT count(*) FROM orders) = 0 THEN DELETE FROM customers; END IF; END $$; SELECT name FROM customers WHERE id = 2;
DO $$ BEGIN IF NOT EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'settings' AND column_name = 'note') THEN ALTER TABLE settings ADD COLUMN note text; COMMENT ON COLUMN settings.note IS 'x'; END IF; END $$; SELECT note FROM settings LIMIT 1; ALTER TABLE settings DROP COLUMN note;
CREATE TABLE "Comment" ("id" SERIAL NOT NULL PRIMARY KEY, "parentId" INTEGER REFERENCES "Comment" ("id"), "customerId" INTEGER, body TEXT); ALTER TABLE "Comment" ADD CONSTRAINT "Comment_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES customers (id) ON DELETE SET NULL;
INSERT INTO "Comment" ("parentId", "customerId", body) SELECT 1, id, email FROM customers ORDER BY id LIMIT 2 RETURNING *;
ALTER TYPE "Role" ADD VALUE 'GUEST';
INSERT INTO "Post" ("authorId") VALUES (NULL) RETURNING id;
BEGIN; CREATE TYPE "Role_new" AS ENUM ('USER', 'ADMIN'); ALTER TABLE "User" ALTER COLUMN "role" DROP DEFAULT; ALTER TABLE "User" ALTER COLUMN "role" TYPE "Role_new" USING ("role"::text::"Role_new"); ALTER TYPE "Role" RENAME TO "Role_old"; ALTER TYPE "Role_new" RENAME TO "Role"; ALTER TABLE "User" DROP COLUMN tags; DROP TYPE "Role_old"; ALTER TABLE "User" ALTER COLUMN "role" SET DEFAULT 'USER'; COMMIT;
CREATE TABLE made (id serial PRIMARY KEY, x text); INSERT INTO made (x) VALUES ('a'); SELECT currval('made_id_seq');
CREATE TABLE made_too (id int GENERATED ALWAYS AS IDENTITY, x text); INSERT INTO made_too (x) VALUES ('b'); SELECT setval('made_too_id_seq', 7), currval('public.made_too_id_seq');
CREATE SEQUENCE counted; SELECT nextval('counted');
ALTER TABLE made RENAME TO remade; SELECT x FROM remade; INSERT INTO public.remade (x) VALUES ('c') RETURNING id;
ALTER TABLE remade RENAME x TO y; SELECT y FROM remade; DROP TABLE remade, made_too; DROP SEQUENCE counted;
CREATE SCHEMA app CREATE VIEW kinds AS SELECT id FROM kind CREATE TABLE kind (id int PRIMARY KEY) CREATE INDEX kind_id ON kind (id); INSERT INTO app.kind VALUES (1); SELECT * FROM app.kinds;
DROP VIEW app.kinds; DROP TABLE app.kind; DROP SCHEMA app;
BEGIN; CREATE SCHEMA app; SET LOCAL search_path = app, public; CREATE TABLE placed (a int); SELECT a FROM app.placed; ROLLBACK;
CREATE TEMP TABLE passing (id serial, a int); INSERT INTO passing (a) VALUES (1); SELECT currval('passing_id_seq'); ALTER TABLE passing RENAME TO passed; SELECT a FROM passed; DROP TABLE passed;
CREATE TEMP TABLE indexed (a int); CREATE INDEX indexed_a ON indexed (a); DROP INDEX indexed_a;
CREATE INDEX CONCURRENTLY IF NOT EXISTS indexed_a ON indexed (a);
DROP INDEX CONCURRENTLY indexed_a;
CREATE INDEX indexed_a ON indexed (a);
ALTER INDEX indexed_a RENAME TO indexed_b;
REINDEX INDEX indexed_b;
DROP INDEX indexed_b; DROP TABLE indexed;
CREATE TABLE shadowed (a int); CREATE INDEX shadowed_a ON shadowed (a);
CREATE TEMP TABLE shadowed (a int);
CREATE INDEX shadowed_a ON shadowed (a);
DROP INDEX shadowed_a;
DROP TABLE shadowed;
DROP INDEX shadowed_a; DROP TABLE shadowed;
CREATE TEMP TABLE parted (a int, b int) PARTITION BY HASH (a); CREATE TEMP TABLE part (a int, b int, PRIMARY KEY (a)); ALTER TABLE parted ATTACH PARTITION part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE UNIQUE INDEX parted_a ON parted (a);
ALTER INDEX parted_a ATTACH PARTITION part_pkey;
DROP TABLE parted;
BEGIN;
CREATE SCHEMA app;
SET LOCAL search_path = app, public;
CREATE TABLE settings (LIKE settings INCLUDING ALL);
INSERT INTO settings SELECT * FROM public.settings;
SELECT count(*) > 0 FROM app.settings;
ROLLBACK;
BEGIN;
CREATE TABLE fresh (a int PRIMARY KEY);
CREATE INDEX fresh_a ON fresh (a);
ALTER INDEX fresh_a RENAME TO fresh_b;
DROP INDEX fresh_b;
ROLLBACK;
CREATE TABLE measures (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE measures_2024 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id); CREATE TABLE measures_2024_1 PARTITION OF measures_2024 (CHECK (id > 0)) FOR VALUES IN (1); CREATE INDEX ON measures_2024_1 (id); INSERT INTO measures_2024_1 (id, at) VALUES (1, '2024-05-01') RETURNING at; SELECT id FROM measures_2024; DROP TABLE measures;
CREATE TABLE likely (LIKE settings INCLUDING ALL, more int); CREATE INDEX ON likely (value); INSERT INTO likely SELECT key, value, 1 FROM settings; SELECT count(*) > 0 FROM likely WHERE key IS NOT NULL AND more = 1; DROP TABLE likely;
CREATE SCHEMA app CREATE TABLE settings (id int) PARTITION BY LIST (id) CREATE TABLE posts PARTITION OF settings FOR VALUES IN (1) PARTITION BY LIST (id) CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1); INSERT INTO app.posts VALUES (1) RETURNING id; DROP TABLE app.settings; DROP SCHEMA app;
CREATE TEMP TABLE staging (a int); INSERT INTO staging VALUES (1), (2); SELECT sum(a) FROM staging; DROP TABLE staging;
CREATE TEMP TABLE staged (a int); INSERT INTO staged VALUES (1), (2); CREATE VIEW doubled AS SELECT a * 2 AS b FROM staged; SELECT sum(b) FROM doubled; CREATE VIEW of_doubled AS SELECT b, (SELECT max(a) FROM staged) FROM doubled; SELECT * FROM of_doubled ORDER BY b; DROP TABLE staged CASCADE;
DROP TABLE "Post", "User"; DROP TYPE "Role";
CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog
-- What is compared with a column of something else, beside what stands behind the barrier.
SELECT count(*) FROM generate_series(1, 5) f(v), orders o WHERE f.v > o.id AND o.region LIKE 'e%'
SELECT count(*) FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id < c.id AND o.region LIKE 'e%')
SELECT count(*) FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id <> c.id AND o.region LIKE 'e%')
SELECT c.id, (SELECT count(*) FROM orders o WHERE o.id > c.id AND o.region LIKE 'e%') FROM customers c ORDER BY c.id
SELECT o.id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM orders p WHERE p.customer_id = o.customer_id AND p.id > o.id AND length(p.region) > 0) ORDER BY o.id
SELECT c.id, x.id FROM customers c, LATERAL (SELECT * FROM orders o WHERE c.id <> o.id AND o.region LIKE 'e%' ORDER BY o.id LIMIT 2) x ORDER BY c.id, x.id
SELECT count(*) FROM (VALUES (1), (2), (3)) f(v), orders o WHERE f.v >= o.id AND o.region LIKE 'e%'
BEGIN; DELETE FROM jobs j WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id < j.id AND o.region LIKE 'e%'); ROLLBACK
-- A subquery that is grouped by and said again.
SELECT (SELECT o.total FROM orders o WHERE o.id = c.id) AS q, count(*) FROM customers c GROUP BY (SELECT o.total FROM orders o WHERE o.id = c.id) HAVING (SELECT o.total FROM orders o WHERE o.id = c.id) IS NOT NULL ORDER BY 1
SELECT (SELECT o.total FROM orders o WHERE o.id = c.id ORDER BY o.id LIMIT 1) + 1 AS q, max(c.id) FROM customers c GROUP BY (SELECT o.total FROM orders o WHERE o.id = c.id ORDER BY o.id LIMIT 1) ORDER BY 1, 2
SELECT (SELECT o.total FROM orders o ORDER BY o.id LIMIT 1) AS x, count(*) FROM customers GROUP BY ROLLUP ((SELECT o.total FROM orders o ORDER BY o.id LIMIT 1)) ORDER BY 1, 2
SELECT (SELECT max(o.total) FROM orders o WHERE o.customer_id = c.id) AS q, max(c.id) FROM customers c GROUP BY 1 HAVING (SELECT max(o.total) FROM orders o WHERE o.customer_id = c.id) > 1 ORDER BY (SELECT max(o.total) FROM orders o WHERE o.customer_id = c.id) + 1, 2

-- values that are too long for a masked column are not cut, and booleans as programs have always written them
UPDATE widths SET code = repeat('x', 5 + id) WHERE id = 1;
UPDATE widths SET short = repeat('x', 3 + id) WHERE id = 1;
UPDATE widths SET flags = repeat('1', 3 + id)::varbit WHERE id = 1;
UPDATE widths SET flags = repeat('1', 1 + id)::varbit WHERE id = 1;
UPDATE widths SET more = repeat('1', 4 + id)::varbit WHERE id = 1;
UPDATE widths SET (code, open) = (repeat('x', 5 + id), true) WHERE id = 1;
UPDATE widths SET code = v.c FROM (SELECT id, repeat('y', 8 + id) FROM posts) v (i, c) WHERE widths.id = v.i AND v.i = 1;
INSERT INTO widths (id, code) VALUES (1, 'ab') ON CONFLICT (id) DO UPDATE SET code = excluded.code || 'cdef';
UPDATE widths SET code = 'abcde', short = 'abc', flags = B'011', more = B'1111' WHERE id = 2 RETURNING id;
UPDATE widths SET code = 'abc   ', short = 'ab       ' WHERE id = 2 RETURNING id;
UPDATE widths SET code = code, short = short, flags = flags, more = more, active = active WHERE id = 1 RETURNING *;
UPDATE widths SET code = '***', short = 'xx ', more = NULL, flags = NULL, active = 'f' WHERE id = 1 RETURNING *;
SELECT 't'::boolean, 'f'::boolean, CAST('f' AS boolean), boolean 't', 't'::bool, 'f'::pg_catalog.bool FROM widths WHERE id = 1;
SELECT id FROM widths WHERE open = 't'::boolean AND id = 1;
UPDATE widths SET active = 't', open = 'f'::boolean WHERE id = 2 RETURNING id, open;
INSERT INTO widths (id, active) SELECT 3, 't' FROM widths WHERE id = 1 RETURNING id;
INSERT INTO widths (id, active, open) VALUES (3, 'f', 't') ON CONFLICT (id) DO UPDATE SET active = 't', open = 't'::boolean RETURNING id, open;
CREATE TEMP TABLE truths (b boolean DEFAULT 't'::boolean);
DROP TABLE truths;
-- What depends on a primary key that is grouped by: the row as a value, columns that can't be grouped, subtotals.
SELECT c.id, row_to_json(c), json_agg(o.total ORDER BY o.id) FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id < 3 GROUP BY c.id ORDER BY c.id
SELECT to_jsonb(o), count(*) FROM orders o GROUP BY o.id ORDER BY o.id LIMIT 2
SELECT to_jsonb(o.*) || jsonb_build_object('n', count(c.id)) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY o.id ORDER BY o.id LIMIT 2
SELECT json_build_object('o', o.*) FROM orders o GROUP BY o.id HAVING o IS NOT NULL ORDER BY row_to_json(o)::text LIMIT 2
SELECT o.id, json_agg(o) FROM orders o GROUP BY o.id ORDER BY o.id LIMIT 2
SELECT p.id, p.body, p.notes, count(*) FROM pages p JOIN orders o ON o.id > p.id GROUP BY p.id ORDER BY p.id
SELECT p.*, count(*) FROM pages p JOIN orders o ON o.id > p.id GROUP BY p.id ORDER BY p.id LIMIT 3
SELECT p.id, p.place, p.place[0] + 1 AS x, p.body->>'n' FROM pages p GROUP BY p.id ORDER BY p.body->>'n' DESC
SELECT p.id, row_to_json(p), max(o.id) FROM pages p LEFT JOIN orders o ON o.id = p.id GROUP BY p.id ORDER BY p.id
SELECT p.id, json_agg(p.body), json_agg(p) FROM pages p GROUP BY p.id ORDER BY p.id
SELECT p.id, body FROM pages p GROUP BY (p.id, p.region) ORDER BY 1
SELECT c.id, c.name, o.state, count(*) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.id, ROLLUP (o.state) ORDER BY 1, 3
SELECT c.id, c.name, count(*) FROM customers c GROUP BY GROUPING SETS ((c.id)) ORDER BY 1
SELECT c.id, c.name, c.version, count(*) FROM customers c GROUP BY GROUPING SETS ((c.id), (c.id, c.version)) ORDER BY 1, 3
SELECT c.id, p.body, count(*) FROM customers c JOIN pages p ON p.id = c.id GROUP BY p.id, CUBE (c.id) ORDER BY p.id, c.id
-- A filter's column in grouping sets, where it is NULL in some rows.
SELECT region, state, count(*) FROM orders GROUP BY ROLLUP (region, state) ORDER BY region, state
SELECT region, customer_id, count(*), rank() OVER (PARTITION BY region ORDER BY count(*), customer_id) FROM orders GROUP BY CUBE (region, customer_id) ORDER BY 4, 3, 2, 1
SELECT DISTINCT ON (region) region, customer_id, count(*) FROM orders GROUP BY CUBE (region, customer_id) ORDER BY region, customer_id NULLS FIRST
SELECT s.region, s.customer_id, row_number() OVER (ORDER BY s.region, s.customer_id) FROM (SELECT * FROM orders) s GROUP BY GROUPING SETS ((s.region), (s.customer_id), ()) ORDER BY 3
WITH s AS (SELECT region, customer_id FROM orders WHERE total > 1) SELECT region, count(*) FROM s GROUP BY ROLLUP (region) ORDER BY region
-- Columns that a join merges, by their names and places.
SELECT id, o.total, p.body FROM orders o JOIN pages p USING (id) WHERE id BETWEEN 2 AND 4 ORDER BY id
SELECT id, o.total FROM pages p FULL JOIN orders o USING (id, region) WHERE id IN (2, 3) ORDER BY id
SELECT id, o.total FROM pages p RIGHT JOIN orders o USING (id) WHERE id = '3' AND o.total::text LIKE '3%'
SELECT * FROM (SELECT * FROM orders JOIN pages USING (region, id)) s WHERE id = 3 AND total::text > '1'
SELECT a, b, c, d FROM (orders JOIN pages USING (region, id)) j (a, b, c, d) WHERE b = 3 AND length(a) > 1 AND d::text LIKE 'o%'
SELECT * FROM (orders o NATURAL JOIN pages p) j WHERE j.id = 3
SELECT x.id, x FROM orders o JOIN pages p USING (id) AS x WHERE x.id < 3 ORDER BY x.id
WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT id, region FROM orders) SELECT id FROM a WHERE length(region) = 2 ORDER BY id LIMIT 2
-- As PostgREST and jOOQ read definitions.
SELECT a.attname, information_schema._pg_char_max_length(information_schema._pg_truetypid(a.*, t.*), information_schema._pg_truetypmod(a.*, t.*))::integer AS n FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = 'customers'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
SELECT information_schema._pg_char_octet_length(1043, 14), information_schema._pg_numeric_precision(1700, 655366), information_schema._pg_numeric_precision_radix(1700, 655366), information_schema._pg_numeric_scale(1700, 655366), information_schema._pg_datetime_precision(1114, -1), information_schema._pg_interval_type(1186, -1)
SELECT information_schema._pg_index_position(i.indexrelid, i.indkey[0]), (information_schema._pg_expandarray(i.indkey)).n FROM pg_index i WHERE i.indrelid = 'orders'::regclass ORDER BY 1, 2
-- Sequences near their end.
SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1
-- Slices.
SELECT cardinality((ARRAY[1, 2, 3])[2:3]), array_length((ARRAY[1, 2, 3])[:2], 1), array_to_string((string_to_array('a,b,c', ','))[2:], '-')
SELECT state, (array_agg(id ORDER BY id))[1:2], unnest((array_agg(id ORDER BY id))[1:1]) FROM orders GROUP BY state ORDER BY state
-- Fields of values, and functions in FROM that give rows.
SELECT (x).n, x.n FROM (SELECT (ROW(1, 2)::pg_catalog.record) AS x, 1 AS n) x
SELECT x.key, x.value, u.word, u.n FROM jsonb_each('{"a": 1}') x, unnest(ARRAY['w'], ARRAY[7]) WITH ORDINALITY u (word, n, at)
SELECT e.e, e FROM unnest(ARRAY[3, 4]) e ORDER BY e
SELECT * FROM ROWS FROM (generate_series(1, 2), json_to_recordset('[{"a": 1}]') AS (a int)) AS x (i, a)
SELECT p.* FROM jsonb_populate_record(NULL::jobs, '{"id": 5, "job": "j"}') p
SELECT s.case, s.coalesce, s.int4, s.text, s.upper FROM (SELECT CASE WHEN true THEN 1 END, COALESCE(NULL, 2), '3'::int4, 'x'::text, upper('a')) s
-- What a text makes is found by its later statements.
CREATE OR REPLACE VIEW new_view AS SELECT key, value FROM settings; SELECT count(*) FROM new_view; ALTER VIEW new_view RENAME TO other_view; COMMENT ON VIEW other_view IS 'x'; DROP VIEW other_view
CREATE OR REPLACE TEMP VIEW settings AS SELECT 'k' AS key; SELECT * FROM settings; DROP VIEW pg_temp.settings; SELECT count(*) FROM settings
CREATE TYPE new_row AS (a int); CREATE TABLE new_of OF new_row; INSERT INTO new_of VALUES (1); SELECT * FROM new_of; DROP TABLE new_of; ALTER TYPE new_row ADD ATTRIBUTE b text; DROP TYPE new_row
CREATE SCHEMA app; SET LOCAL search_path = app, public; CREATE TABLE base (key text, value text); CREATE OR REPLACE VIEW settings AS SELECT * FROM base; INSERT INTO base VALUES ('a', 'b'); SELECT count(*) FROM settings; DROP VIEW app.settings; DROP TABLE app.base; DROP SCHEMA app
DO $$ BEGIN CREATE TABLE made (key text); END $$; INSERT INTO made VALUES ('mine'); SELECT * FROM made; DROP TABLE made
BEGIN; CREATE TEMP TABLE first (id int); DO $$ BEGIN CREATE TEMP TABLE settings (key int); END $$; INSERT INTO settings VALUES (1); SELECT * FROM settings; ROLLBACK
-- What migrations guard so.
DO $$ BEGIN ALTER TABLE jobs ADD COLUMN locked_at text; EXCEPTION WHEN duplicate_column THEN RAISE NOTICE 'column exists'; END $$
DO $$ BEGIN CREATE TYPE state AS ENUM ('x'); EXCEPTION WHEN duplicate_object THEN NULL; WHEN others THEN RAISE; END $$
DO $$ BEGIN UPDATE settings SET value = '7' WHERE key = 'zz'; IF NOT FOUND THEN INSERT INTO settings VALUES ('zz', '7'); END IF; END; $$ LANGUAGE plpgsql
DO $$ BEGIN PERFORM setval('jobs_id_seq', (SELECT max(id) FROM jobs)); PERFORM pg_advisory_xact_lock(1); RAISE NOTICE 'done'; END $$
DO $$ BEGIN IF (SELECT count(*) FROM settings) > 100 THEN RAISE EXCEPTION 'too many'; END IF; RAISE WARNING 'fine'; END $$
DO $$ BEGIN IF EXISTS (SELECT FROM settings WHERE key = 'zz') THEN RAISE EXCEPTION 'it is there'; END IF; END $$
DELETE FROM settings WHERE key = 'zz'
-- As pg_dump writes an identity column.
CREATE TABLE dumped (id int NOT NULL, n int); ALTER TABLE public.dumped ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME public.dumped_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1); INSERT INTO dumped (n) VALUES (7); SELECT * FROM dumped; DROP TABLE dumped
