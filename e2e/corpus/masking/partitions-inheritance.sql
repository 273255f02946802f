-- Children and partitions carry what their ancestors have, and the other way round.

-- leak works: the partitioned table
SELECT * FROM events;

-- leak works: a partition
SELECT payload FROM events_eu;

-- leak works: another partition
TABLE events_us;

-- leak works: a row of a partition
SELECT e FROM events_eu e;

-- leak works: the parent
SELECT phone FROM people;

-- leak works: the parent alone
SELECT phone FROM ONLY people;

-- leak works: the parent with its children, spelled out
SELECT phone FROM people *;

-- leak works: the child
SELECT phone, bonus FROM managers;

-- leak works: the child's row
SELECT to_jsonb(m) FROM managers m;

-- leak works: ONLY in parentheses
SELECT phone FROM ONLY (people);

-- leak: a child's row as its parent's
SELECT (m::people).phone FROM managers m;

-- leak works: with tableoid
SELECT tableoid::regclass, phone FROM people;

-- leak: a write to the parent that returns the child's
UPDATE people SET name = name RETURNING phone;

-- leak: a write to a partition
UPDATE events_eu SET id = id RETURNING payload;

-- leak: DELETE with RETURNING in a partition
BEGIN;
DELETE FROM events_us RETURNING *;
ROLLBACK;

-- leak: a detached partition
BEGIN;
ALTER TABLE events DETACH PARTITION events_eu;
SELECT payload FROM events_eu;
ROLLBACK;

-- leak: a table attached by inheritance
BEGIN;
CREATE TABLE scratch.child () INHERITS (people);
INSERT INTO scratch.child SELECT * FROM people;
SELECT phone FROM scratch.child;
ROLLBACK;

-- leak: LIKE and copy
BEGIN;
CREATE TABLE scratch.like_customers (LIKE customers);
INSERT INTO scratch.like_customers (id, name, card, region, visits, card_lower) SELECT id, name, card, region, visits, card_lower FROM customers;
SELECT card FROM scratch.like_customers;
ROLLBACK;
