-- Functions, operators, aggregates and procedures of the database that read the tables: none is allowed by a rule.

-- leak refused: an SQL function
SELECT leak_sql();

-- leak refused: in FROM
SELECT * FROM leak_table();

-- leak refused: PL/pgSQL
SELECT leak_plpgsql(1);

-- leak refused: one that takes SQL
SELECT leak_dynamic('SELECT max(card) FROM customers');

-- leak refused: SECURITY DEFINER
SELECT public.leak_definer();

-- leak refused: one that raises a notice
SELECT leak_notice();

-- leak refused: by LATERAL
SELECT l.* FROM generate_series(1, 2) i, LATERAL leak_plpgsql(i) l;

-- leak refused: in ROWS FROM
SELECT * FROM ROWS FROM (leak_sql(), generate_series(1, 2));

-- leak refused: an operator
SELECT 1 === 1;

-- leak refused: an operator with its schema
SELECT 1 OPERATOR(public.===) 1;

-- leak refused: an operator by ANY
SELECT 1 === ANY (ARRAY[1, 2]);

-- leak refused: an aggregate
SELECT leak_all(i) FROM generate_series(1, 2) i;

-- leak refused: an aggregate as a window
SELECT leak_all(i) OVER () FROM generate_series(1, 2) i;

-- leak refused: a procedure
CALL leak_procedure(NULL);

-- leak refused: attribute notation
SELECT c.leak_member FROM customers c;

-- leak refused: in a default argument's place
SELECT COALESCE(NULL, leak_plpgsql(1));

-- leak refused: in VALUES
VALUES (leak_plpgsql(2));

-- leak refused: in INSERT
INSERT INTO other.customers VALUES (7, leak_plpgsql(1)) RETURNING card;

-- leak refused: in UPDATE
UPDATE other.customers SET card = leak_plpgsql(1) RETURNING card;

-- leak refused: in COPY
COPY (SELECT leak_sql()) TO STDOUT;

-- leak refused: in a cursor
BEGIN;
DECLARE k CURSOR FOR SELECT leak_sql();
FETCH ALL FROM k;
COMMIT;

-- leak refused: in PREPARE
PREPARE p AS SELECT leak_sql();
EXECUTE p;

-- leak refused: in LIMIT
SELECT 1 FROM generate_series(1, 100) LIMIT (length(leak_plpgsql(1)));
SELECT leak_plpgsql(1);

-- leak refused: in EXPLAIN ANALYZE
EXPLAIN ANALYZE SELECT leak_notice();

-- leak refused: a function of its own
CREATE FUNCTION scratch.f() RETURNS SETOF text LANGUAGE sql AS 'SELECT card FROM public.customers';
SELECT scratch.f();

-- leak refused: a temporary function
CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql AS 'SELECT card FROM public.customers';
SELECT pg_temp.f();

-- leak refused: a function in the new style
CREATE FUNCTION scratch.g() RETURNS text LANGUAGE sql RETURN (SELECT max(card) FROM public.customers);
SELECT scratch.g();

-- leak refused: DO
DO $$ BEGIN RAISE NOTICE '%', (SELECT max(card) FROM customers); END $$;

-- leak refused: a quoted name
SELECT "leak_sql"();

-- leak refused: a name in Unicode escapes
SELECT U&"leak\005Fsql"();

-- leak refused: an operator by ALL
SELECT 1 === ALL (ARRAY[1, 2]);

-- leak refused: an operator by ANY of a literal
SELECT 1 === ANY ('{1,2}');

-- leak refused: an operator by ANY of a subquery
SELECT 1 === ANY (SELECT 1);

-- leak refused: an operator by ANY of a column
SELECT 1 === ANY (a) FROM (SELECT array_agg(id) a FROM customers) s;

-- leak refused: an operator between rows
SELECT ROW(1) === ROW(2);

-- leak refused: the operators of BETWEEN
SELECT true BETWEEN date '2020-01-01' AND date '2020-01-01';

-- leak refused: the operators of NOT BETWEEN
SELECT true NOT BETWEEN date '2020-01-01' AND date '2020-01-01';

-- leak refused: the operators of BETWEEN SYMMETRIC
SELECT true BETWEEN SYMMETRIC date '2020-01-01' AND date '2020-01-01';

-- leak refused: the operator of IN
SELECT true IN (date '2020-01-01', date '2020-01-01');

-- leak refused: the operator of IN with a subquery
SELECT true IN (SELECT date '2020-01-01');

-- leak refused: the operator of NOT IN
SELECT true NOT IN (date '2020-01-01', date '2020-01-01');

-- leak refused: the operator of CASE
SELECT CASE true WHEN date '2020-01-01' THEN 1 END;

-- leak refused: the operator of NULLIF
SELECT NULLIF(true, date '2020-01-01');

-- leak refused: the operator of IS DISTINCT FROM
SELECT true IS DISTINCT FROM date '2020-01-01';

-- leak refused: the operator of USING
SELECT 1 FROM (SELECT 'x'::name AS id) a JOIN (SELECT 'x'::varchar AS id) b USING (id);

-- leak refused: the operator of NATURAL
SELECT 1 FROM (SELECT 'x'::name AS id) a NATURAL JOIN (SELECT 'x'::varchar AS id) b;

-- works: those operators as everyone uses them
SELECT id FROM customers WHERE id BETWEEN 1 AND 3 AND id NOT BETWEEN 5 AND 6 AND id IN (1, 2, 3) AND name NOT IN ('x', 'y') AND id = ANY ('{1,2}') AND name LIKE ANY (ARRAY['A%', 'B%']) AND seen BETWEEN '2020-01-01' AND now() AND balance BETWEEN SYMMETRIC 1000000 AND 1.5 AND CASE region WHEN 'eu' THEN true ELSE false END AND NULLIF(name, '') IS DISTINCT FROM 'z';

-- same refused: a domain whose CHECK looks into a masked table
SELECT 'SECRETZQX84-1'::guess;

-- same refused: the same by a call of the type's name
SELECT guess('SECRETZQX84-1');

-- same refused: the same in an array
SELECT '{SECRETZQX84-1}'::guess[];

-- same refused: the same within a row
SELECT '(1,SECRETZQX84-1)'::guessed;

-- same refused: the same within a row made of JSON
SELECT jsonb_populate_record(NULL::guessed, '{"value": "SECRETZQX84-1"}');

-- same refused: the same as a column of what JSON becomes
SELECT * FROM json_to_record('{"value": "SECRETZQX84-1"}') AS x (value guess);

-- same refused: a domain whose CHECK casts to that one
SELECT 'SECRETZQX84-1'::guess_again;

-- same refused: a parameter of that type
PREPARE p (guess) AS SELECT $1;
EXECUTE p ('SECRETZQX84-1');

-- same refused: a table's own column of that type
CREATE TEMP TABLE t (value guess);
INSERT INTO t VALUES ('SECRETZQX84-1');

-- same refused since16: a type that is named by text
SELECT pg_input_is_valid('SECRETZQX84-1', 'guess');

-- same refused: a literal that a window function takes for the domain
SELECT lag(one, 1, 'SECRETZQX84-1') OVER () FROM guesses;

-- same refused: a literal that becomes an item of an array
SELECT array_append(several, 'SECRETZQX84-1') FROM guesses;

-- same refused: a literal beside an array
SELECT several @> '{SECRETZQX84-1}' FROM guesses;

-- same refused: a literal in a list beside an array
SELECT several IN ('{SECRETZQX84-1}', '{a}') FROM guesses;

-- same refused: a literal in COALESCE beside an array
SELECT COALESCE(several, '{SECRETZQX84-1}'), CASE WHEN id > 5 THEN several ELSE '{SECRETZQX84-1}' END FROM guesses;

-- same refused: a literal beside an array in UNION
SELECT several FROM guesses UNION ALL SELECT '{SECRETZQX84-1}';

-- same refused: a literal beside an array in VALUES
VALUES ((SELECT several FROM guesses)), ('{SECRETZQX84-1}');

-- same refused: a literal beside a row
SELECT COALESCE(whole, '(1,SECRETZQX84-1)') FROM guesses;

-- same refused: a literal beside an array in a row
SELECT (id, several) = (1, '{SECRETZQX84-1}') FROM guesses;

-- same refused: a literal beside an array in a subquery's comparison
SELECT '{SECRETZQX84-1}' = ANY (SELECT several FROM guesses);

-- same refused: a literal beside an array in CASE
SELECT CASE several WHEN '{SECRETZQX84-1}' THEN 1 END FROM guesses;

-- same refused: a literal beside an array in BETWEEN
SELECT several BETWEEN '{SECRETZQX84-1}' AND '{a}' FROM guesses;

-- same refused: a row made of JSON over a table's own
SELECT jsonb_populate_record(g, '{"one": "SECRETZQX84-1"}') FROM guesses g;

-- works: what is compared with a column of such a domain is of the type under it
SELECT id, one, several, whole FROM guesses WHERE one = 'SECRETZQX84-1' OR one IN ('x', 'y') OR one LIKE 'x%';
SELECT COALESCE(one, 'SECRETZQX84-1'), upper(one), one || '!' FROM guesses;
UPDATE guesses SET one = 'b' WHERE one = 'x';

-- leak refused: a function of a search_path that ended with its transaction
SET search_path = other, public;
BEGIN; SET LOCAL search_path = public; COMMIT; SELECT shout('x'::text);

-- leak refused: a function of a search_path that was taken back in the same text
SET search_path = other, public;
BEGIN; SET search_path = public; ROLLBACK; SELECT shout('x'::text);

-- leak refused: a function of a search_path that was set in an earlier message and is taken back
SET search_path = other, public;
BEGIN; SET search_path = public;
ROLLBACK; SELECT shout('x'::text);

-- leak refused: a function of a search_path that a savepoint takes back
SET search_path = other, public;
BEGIN; SAVEPOINT s; SET search_path = public;
ROLLBACK TO s; SELECT shout('x'::text);

-- leak refused: a function of a search_path that a COMMIT of what failed takes back
SET search_path = other, public;
BEGIN; SET search_path = public;
SELECT 1/0;
COMMIT; SELECT shout('x'::text);

-- works: a function of the search_path that a COMMIT keeps
SET search_path = other;
BEGIN; SET search_path = public; COMMIT; SELECT shout('x'::text);

-- leak: EXECUTE after a change of search_path in the same text
PREPARE p AS SELECT shout('x'::text);
SET search_path = other, public; EXECUTE p;

-- leak: EXECUTE after a change of search_path
PREPARE p AS SELECT shout('x'::text);
SET search_path = other, public;
EXECUTE p;
