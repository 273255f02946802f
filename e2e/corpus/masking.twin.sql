-- The same database as the identity should see it, made by hand: what a masked one must answer, this one answers.
ALTER TABLE payments DROP CONSTRAINT payments_email_fkey, DROP CONSTRAINT payments_token_key;
ALTER TABLE customers DROP CONSTRAINT customers_email_key, DROP CONSTRAINT customers_salary_check, DROP CONSTRAINT customers_card_check;
ALTER TABLE vault DROP CONSTRAINT vault_check;
ALTER TABLE audited DISABLE TRIGGER ALL;
DROP MATERIALIZED VIEW customer_cache, order_cache;
DROP VIEW customer_star;
ALTER TABLE customers DROP COLUMN ssn;
UPDATE customers SET email = 'm***@example.com', card = '**********' || right(card, 4), note = repeat('*', length(note)),
    secret = NULL, code = NULL, label = 'confidential', birth = '1937-01-01', seen = '2021-06-15 13:00:00+00', balance = 918000,
    salary = 0, doc = NULL, blob = NULL, tags = '{}';
DELETE FROM orders WHERE region <> 'eu';
UPDATE people SET phone = repeat('*', length(phone));
UPDATE managers SET bonus = 0;
UPDATE events SET payload = NULL;
UPDATE payments SET customer_email = 'm***@example.com', token = repeat('*', length(token));
UPDATE vault SET pin = 0;
UPDATE audited SET pin = repeat('*', length(pin));
ALTER TABLE audited ENABLE TRIGGER ALL;
UPDATE virtuals SET pin = repeat('*', length(pin));
UPDATE coded SET code = repeat('*', length(code));
DELETE FROM tasks WHERE parcel <> 1;
DELETE FROM parcels WHERE stage <> 'open';
UPDATE "Odd ""Name" SET "Select" = repeat('*', length("Select"));
ANALYZE;
