-- The same database as the identity should see it, made by hand. Code is set by the test to what the gate shows: a keyed hash.
ALTER TABLE customers DROP COLUMN ssn, ALTER salary SET DEFAULT 0, ALTER tags SET DEFAULT '{}', ALTER label SET DEFAULT 'confidential';
UPDATE customers SET email = 'm***@example.com' WHERE email IS NOT NULL;
UPDATE customers SET card = '**********' || right(card, 4), note = repeat('*', length(note)), secret = NULL, label = 'confidential',
    birth = make_date(extract(year FROM birth)::int, 1, 1), seen = date_trunc('hour', seen), balance = floor(balance / 1000) * 1000,
    salary = 0, doc = NULL, tags = '{}';
DELETE FROM orders WHERE region <> 'eu';
UPDATE people SET phone = repeat('*', length(phone));
UPDATE managers SET bonus = 0;
ALTER TABLE managers ALTER bonus SET DEFAULT 0;
UPDATE events SET payload = NULL;
DELETE FROM events WHERE level >= 3;
DELETE FROM parcels WHERE stage = 'lost';
UPDATE parcels SET item = left(item, 1) || repeat('*', length(item) - 1);
