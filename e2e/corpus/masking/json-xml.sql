-- Rows and values made into JSON and XML.

-- leak works: to_jsonb of the row
SELECT to_jsonb(c) FROM customers c;

-- leak works: to_json
SELECT to_json(c) FROM customers c;

-- leak works: row_to_json
SELECT row_to_json(c) FROM customers c;

-- leak works: row_to_json, pretty
SELECT row_to_json(c, true) FROM customers c;

-- leak works: row_to_json of a subquery
SELECT row_to_json(s) FROM (SELECT id, card FROM customers) s;

-- leak works: a field of to_jsonb
SELECT to_jsonb(c) ->> 'card' FROM customers c;

-- leak works: a path of to_jsonb
SELECT to_jsonb(c) #>> '{tags,0}', to_jsonb(c) #>> '{doc,k}' FROM customers c;

-- leak works: subscripted
SELECT (to_jsonb(c))['card'] FROM customers c;

-- leak works: json_agg
SELECT json_agg(c) FROM customers c;

-- leak works: jsonb_agg with an order
SELECT jsonb_agg(card ORDER BY id) FROM customers;

-- leak works: json_object_agg
SELECT json_object_agg(id, card), jsonb_object_agg(card, id) FROM customers;

-- leak works: json_build_object
SELECT json_build_object('c', card, 's', salary), jsonb_build_array(card, doc) FROM customers;

-- leak works: json_object of arrays
SELECT json_object(ARRAY['a'], ARRAY[card]) FROM customers;

-- leak works: jsonb_each
SELECT e.key, e.value FROM customers c, jsonb_each(to_jsonb(c)) e;

-- leak works: jsonb_each_text of a value
SELECT e.* FROM customers c, jsonb_each_text(c.doc) e;

-- leak works: jsonb_path_query
SELECT jsonb_path_query(to_jsonb(c), '$.*') FROM customers c;

-- leak works: a field of a jsonb column
SELECT doc ->> 'k', doc -> 'k', doc #>> '{k}', doc['k'] FROM customers;

-- leak works: jsonb_pretty
SELECT jsonb_pretty(doc), jsonb_pretty(to_jsonb(c)) FROM customers c;

-- leak works: jsonb_set
SELECT jsonb_set('{}', '{x}', to_jsonb(card)) FROM customers;

-- leak works: concatenated jsonb
SELECT '{"a": 1}'::jsonb || doc, jsonb_strip_nulls(to_jsonb(c)) FROM customers c;

-- leak works: jsonb_to_recordset
SELECT r.card FROM (SELECT jsonb_agg(c) j FROM customers c) s, jsonb_to_recordset(s.j) AS r(id int, card text);

-- leak works: json_array_elements of an aggregate
SELECT e ->> 'card' FROM (SELECT json_agg(c) j FROM customers c) s, json_array_elements(s.j) e;

-- leak works: a column by a name that was computed
SELECT to_jsonb(c) ->> ('ca' || 'rd') FROM customers c;

-- leak works: array_to_json
SELECT array_to_json(tags), array_to_json(array_agg(card)) FROM customers GROUP BY tags;

-- leak works: xmlelement
SELECT xmlelement(name x, card) FROM customers;

-- leak works: xmlforest
SELECT xmlforest(card AS c, note AS n) FROM customers;

-- leak works: xmlagg
SELECT xmlagg(xmlelement(name x, card)) FROM customers;

-- leak works: xmltable
SELECT x.v FROM customers c, xmltable('/x' PASSING xmlelement(name x, c.card) COLUMNS v text PATH '.') x;

-- leak works: xpath
SELECT xpath('/x/text()', xmlelement(name x, card)) FROM customers;

-- leak refused: query_to_xml
SELECT query_to_xml('SELECT card FROM customers', true, false, '');

-- leak refused: table_to_xml
SELECT table_to_xml('customers', true, false, '');

-- leak refused: schema_to_xml
SELECT schema_to_xml('public', true, false, '');

-- leak refused: database_to_xml
SELECT database_to_xml(true, false, '');

-- leak refused: cursor_to_xml
BEGIN;
DECLARE k CURSOR FOR SELECT card FROM customers;
SELECT cursor_to_xml('k', 10, true, false, '');
COMMIT;

-- leak refused: query_to_xml_and_xmlschema
SELECT query_to_xml_and_xmlschema('SELECT card FROM customers', true, false, '');

-- leak refused: ts_stat, which takes SQL as text
SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', card) FROM customers');
