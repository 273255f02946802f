-- Expressions that change the shape of a value.

-- leak works: upper case
SELECT upper(card) FROM customers;

-- leak works: lower case
SELECT lower(note) FROM customers;

-- leak works: backwards
SELECT reverse(card) FROM customers;

-- leak works: in pieces
SELECT substr(card, 1, 9), substring(card FROM 1 FOR 9), left(card, 9) FROM customers;

-- leak works: letter by letter
SELECT regexp_split_to_table(card, '') FROM customers WHERE id = 1;

-- leak works: letter by letter, as an array
SELECT string_to_array(card, NULL) FROM customers WHERE id = 1;

-- leak works: as codes of letters
SELECT ascii(substr(card, i, 1)) FROM customers, generate_series(1, 14) i WHERE id = 1 ORDER BY i;

-- leak works: hexadecimal
SELECT encode(card::bytea, 'hex') FROM customers;

-- leak works: base64
SELECT encode(convert_to(card, 'UTF8'), 'base64') FROM customers;

-- leak works: escaped
SELECT encode(card::bytea, 'escape') FROM customers;

-- leak works: base64 of bytes
SELECT encode(blob, 'base64') FROM customers;

-- leak works: a digest
SELECT md5(card) FROM customers;

-- leak works: another digest
SELECT sha256(card::bytea) FROM customers;

-- leak works: concatenated
SELECT 'card: ' || card || '.' FROM customers;

-- leak works: by concat and format
SELECT concat(card, '-', note), format('%s %L %I', card, note, label) FROM customers;

-- leak works: concat_ws
SELECT concat_ws(',', name, secret, code) FROM customers;

-- leak works: quoted
SELECT quote_literal(card), quote_ident(note), quote_nullable(label) FROM customers;

-- leak works: translated
SELECT translate(card, '-', '+') FROM customers;

-- leak works: replaced
SELECT replace(card, '-', ''), regexp_replace(card, '-.*', '') FROM customers;

-- leak works: matched
SELECT regexp_matches(card, '.*') FROM customers;

-- leak works: split
SELECT split_part(card, '-', 1) FROM customers;

-- leak works: padded and trimmed
SELECT rpad(card, 30, '.'), trim(trailing '0123' FROM card), overlay(card placing '' from 12) FROM customers;

-- leak works: CASE
SELECT CASE WHEN id > 0 THEN card END FROM customers;

-- leak works: COALESCE
SELECT COALESCE(secret, 'none') FROM customers;

-- leak works: NULLIF, GREATEST, LEAST
SELECT NULLIF(card, ''), GREATEST(note, ''), LEAST(label, 'zzzz') FROM customers;

-- leak works: a cast to another text type
SELECT card::varchar(9), card::name, card::char(20) FROM customers;

-- leak works: CAST
SELECT CAST(salary AS text), CAST(balance AS text), CAST(birth AS text) FROM customers;

-- leak works: a cast by function notation
SELECT int8(salary), float8(balance), text(card::name) FROM customers;

-- leak works: a cast by attribute notation
SELECT c.card::text, (c.salary).int8 FROM customers c;

-- leak works: arithmetic that gives it back
SELECT salary + 0, salary * 1, -(-salary), salary - 1 + 1 FROM customers;

-- leak works: numeric arithmetic that gives it back
SELECT balance * 100 / 100, round(balance, 0), trunc(balance) FROM customers;

-- leak works: to_char
SELECT to_char(salary, '999999999'), to_char(birth, 'YYYYMMDD'), to_char(seen AT TIME ZONE 'UTC', 'MI:SS.US') FROM customers;

-- leak works: to_hex
SELECT to_hex(salary) FROM customers;

-- leak works: a date as text in another style
SELECT to_char(birth, 'DD Mon YYYY') FROM customers;

-- leak works: a point in time in another zone
SELECT seen AT TIME ZONE 'Asia/Kathmandu' FROM customers;

-- leak works: the zone of the session
SET timezone = 'Asia/Kathmandu';
SELECT seen, seen::timestamp FROM customers;

-- leak works: seconds since 1970
SELECT extract(epoch FROM seen) FROM customers;

-- leak works: an interval to a known point
SELECT date '1937-01-01' + (birth - date '1937-01-01') FROM customers;

-- same works: parts of a date
SELECT extract(month FROM birth), extract(doy FROM birth), date_part('day', birth), age(date '2000-01-01', birth) FROM customers;

-- same works: parts of a point in time
SELECT extract(minute FROM seen), date_trunc('minute', seen) = date_trunc('hour', seen) FROM customers;

-- leak works: an array around it
SELECT ARRAY[card, note], array_append(tags, card), ARRAY[salary] FROM customers;

-- leak works: an array of a query
SELECT ARRAY(SELECT card FROM customers);

-- leak works: array_to_string and unnest
SELECT array_to_string(tags, ','), t FROM customers, unnest(tags) AS t;

-- leak works: a row around it
SELECT ROW(card, note), (id, card) FROM customers;

-- leak works: a field of a row
SELECT (ROW(card, 1)).f1 FROM customers;

-- leak works: text search
SELECT to_tsvector('simple', card) FROM customers;

-- leak works: a query of text search
SELECT plainto_tsquery('simple', card) FROM customers;

-- leak works: bits
SELECT salary::bit(32)::int FROM customers;

-- leak works: a byte at a time
SELECT get_byte(blob, i) FROM customers, generate_series(0, 8) i WHERE id = 1 ORDER BY i;

-- same works: its length
SELECT length(secret), octet_length(blob), char_length(label), cardinality(tags), pg_column_size(salary) FROM customers ORDER BY id;

-- same works: comparisons in the select list
SELECT card LIKE 'CARD%', note > 'M', secret IS NULL, salary = 0, birth = '1937-01-01', doc ? 'k', tags = '{}' FROM customers ORDER BY id;

-- same works: position
SELECT position('ZQX' IN card), strpos(note, 'ZQ'), starts_with(label, 'LABEL') FROM customers ORDER BY id;

-- leak works: COLLATE
SELECT card COLLATE "C" FROM customers;

-- leak works: random sample that holds everything
SELECT card FROM customers TABLESAMPLE BERNOULLI (100) REPEATABLE (1);
