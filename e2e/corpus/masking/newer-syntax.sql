-- What came with Postgres 16, 17 and 18.

-- leak since18 works: the row before and after an UPDATE
UPDATE customers SET visits = visits + 1 WHERE id = 1 RETURNING old.card, new.card, old.secret, new.note;

-- leak since18: the row before and after as a whole
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING old, new;

-- same works since18: where there is no row before a write, there is none
MERGE INTO people p USING (VALUES (1), (77)) v(id) ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, 'n') RETURNING merge_action(), old;

-- leak since18: all columns before and after
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING old.*, new.*;

-- leak since18: the row before as json
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING to_jsonb(old), row_to_json(new);

-- leak since18: old and new by names of the client's own
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING WITH (OLD AS before, NEW AS after) before.card || after.note;

-- leak since18: old and new with their names exchanged
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING WITH (OLD AS new, NEW AS old) old.card, new.card;

-- leak since18: the row before in a subquery
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING (SELECT o.x FROM (SELECT old.card AS x) o), (SELECT new.secret);

-- leak since18: the row before, of a target that is called old
UPDATE customers AS old SET visits = 9 WHERE id = 1 RETURNING old.card, new.card;

-- leak since18: a table called old beside the target
UPDATE people SET name = 'x' FROM customers old WHERE old.id = people.id RETURNING old.card, new.phone;

-- leak since18: the row that a DELETE took away
DELETE FROM audited WHERE id = 1 RETURNING old.pin, new.pin;

-- leak since18: the row before an upsert
INSERT INTO customers (id, name, card) VALUES (1, 'x', 'CARDNEW-1') ON CONFLICT (id) DO UPDATE SET visits = 9 RETURNING old.card, new.card, old.email;

-- leak since18: the row before a MERGE
MERGE INTO customers c USING (SELECT 1 AS id) s ON c.id = s.id WHEN MATCHED THEN UPDATE SET visits = 9 RETURNING merge_action(), old.card, new.note;

-- leak since17: what a MERGE returns
MERGE INTO customers c USING (SELECT 1 AS id) s ON c.id = s.id WHEN MATCHED THEN UPDATE SET visits = 9 RETURNING merge_action(), c.card, c.note;

-- leak since17: the row that a MERGE returns
MERGE INTO customers c USING (SELECT 1 AS id) s ON c.id = s.id WHEN MATCHED THEN UPDATE SET visits = 9 RETURNING c;

-- leak since17: what a MERGE takes away that its source lacks
MERGE INTO audited a USING (SELECT 2 AS id) s ON a.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING a.pin;

-- same since18: the rows before a write inside a filter
UPDATE orders SET amount = amount + 1 RETURNING old.id, old.item, new.amount;

-- refused since18: the hidden column before a write
UPDATE customers SET visits = 9 WHERE id = 1 RETURNING old.ssn;

-- leak since17: JSON_TABLE of a row
SELECT jt.* FROM customers c, JSON_TABLE(to_jsonb(c), '$' COLUMNS (card text PATH '$.card', secret text PATH '$.secret')) jt;

-- leak since17: JSON_TABLE of nested paths
SELECT jt.* FROM JSON_TABLE((SELECT jsonb_agg(c) FROM customers c), '$[*]' COLUMNS (id int PATH '$.id', NESTED PATH '$.tags[*]' COLUMNS (tag text PATH '$'))) jt;

-- leak since17: JSON_TABLE that is passed a value
SELECT jt.v FROM customers c, JSON_TABLE(jsonb '{}', '$' PASSING c.card AS x COLUMNS (v text PATH '$x')) jt;

-- works since17: JSON_TABLE with a default
SELECT jt.v FROM customers c, JSON_TABLE(jsonb '{}', '$' COLUMNS (v text PATH '$.nothing' DEFAULT 'x' ON EMPTY)) jt;

-- leak since17: JSON_VALUE and JSON_QUERY
SELECT JSON_VALUE(to_jsonb(c), '$.card'), JSON_QUERY(to_jsonb(c), '$.note'), JSON_VALUE(c.doc, '$.k') FROM customers c;

-- same since17: JSON_EXISTS as a probe
SELECT id FROM customers c WHERE JSON_EXISTS(to_jsonb(c), '$ ? (@.card starts with "CARDZQX")');

-- leak since17: an error of JSON_VALUE
SELECT JSON_VALUE(to_jsonb(c), '$.card' RETURNING int ERROR ON ERROR) FROM customers c;

-- works since17: JSON_VALUE with a default that the server refuses
SELECT JSON_VALUE(jsonb '{}', '$.a' DEFAULT card ON EMPTY) FROM customers;

-- leak since16: JSON constructors
SELECT JSON_OBJECT('k': card, 'n' VALUE note), JSON_ARRAY(card, note NULL ON NULL) FROM customers;

-- leak since16: JSON constructors of a row and of a query
SELECT JSON_ARRAY(c), JSON_ARRAY(SELECT card FROM customers) FROM customers c;

-- leak since16: JSON aggregates
SELECT JSON_ARRAYAGG(card ORDER BY note), JSON_OBJECTAGG(id : card) FILTER (WHERE id > 0) FROM customers;

-- leak since17: JSON, JSON_SCALAR and JSON_SERIALIZE
SELECT JSON('"' || card || '"'), JSON_SCALAR(note), JSON_SERIALIZE(to_json(label)) FROM customers;

-- leak since17: an error of JSON
SELECT JSON(card) FROM customers;

-- same since16: IS JSON as a probe
SELECT id FROM customers WHERE ('"' || substr(card, 1, 3) || '"') IS JSON SCALAR AND card LIKE 'CARD%';

-- leak since16: XMLSERIALIZE with an indent
SELECT xmlserialize(CONTENT xmlelement(NAME a, card) AS text INDENT) FROM customers;

-- leak since16: any value of a group
SELECT any_value(card), any_value(c) FROM customers c GROUP BY region;

-- leak since16: a subquery without a name
SELECT * FROM (SELECT card, note FROM customers);

-- leak since16: samples and shuffles of an array
SELECT array_shuffle(array_agg(card)), array_sample(array_agg(note), 2) FROM customers;

-- leak since17: numbers in other bases
SELECT to_oct(salary), to_bin(salary), salary FROM customers;

-- leak since17: a random number between a value and itself
SELECT random(salary, salary) FROM customers;

-- leak since18: order and case of texts
SELECT array_sort(array_agg(card)), array_reverse(array_agg(note)), max(casefold(secret)) FROM customers;

-- leak since18: the greatest row
SELECT max(c) FROM customers c;

-- leak since18: a number as bytes and back
SELECT salary::bytea::int FROM customers;

-- leak since18: COPY of a materialized view
COPY customer_cache TO STDOUT;

-- leak: a generated column that is computed as it is read
SELECT loud FROM virtuals;

-- leak: the row with a generated column
SELECT v, to_jsonb(v) FROM virtuals v;

-- same: a generated column as a probe
SELECT id FROM virtuals WHERE loud LIKE 'PIN%';

-- leak: a generated column of a write's target
UPDATE virtuals SET memo = loud WHERE id = 1 RETURNING memo, loud;

-- leak since18: a generated column before and after a write
UPDATE virtuals SET memo = 'x' WHERE id = 1 RETURNING old.loud, new.loud, old, new;

-- leak: a generated column in COPY
COPY (SELECT loud FROM virtuals) TO STDOUT;

-- leak: a generated column of a row that goes
DELETE FROM virtuals RETURNING loud, virtuals;

-- refused since18: an expression over a masked column that is computed as it is read
ALTER TABLE virtuals ADD COLUMN again text GENERATED ALWAYS AS (lower(pin)) VIRTUAL;
