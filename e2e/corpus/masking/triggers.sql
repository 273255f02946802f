-- Triggers are their owner's code and run; what they say is scrubbed, and RETURNING does not tell what they set.

-- leak: a notice
UPDATE audited SET memo = 'notice' WHERE id = 1;

-- leak: a warning with the row
UPDATE audited SET memo = 'warning' WHERE id = 1;

-- leak: an exception
UPDATE audited SET memo = 'boom' WHERE id = 1;

-- leak: a cast that fails
UPDATE audited SET memo = 'cast' WHERE id = 1;

-- leak: a value that a trigger copies, returned
BEGIN;
UPDATE audited SET memo = 'copy' WHERE id = 1 RETURNING memo;
ROLLBACK;

-- leak: a value that a trigger copies, returned with the row
BEGIN;
UPDATE audited SET memo = 'copy' WHERE id = 1 RETURNING *;
ROLLBACK;

-- leak: a notice on DELETE
BEGIN;
DELETE FROM audited WHERE id = 1;
ROLLBACK;

-- leak refused: a notification on a channel that no rule grants
LISTEN pins;
UPDATE audited SET memo = 'notify' WHERE id = 1;
SELECT 1;

-- leak: an upsert whose trigger speaks
INSERT INTO audited VALUES (1, 'x', 'y') ON CONFLICT (id) DO UPDATE SET memo = 'notice';

-- leak since15: MERGE whose trigger speaks
MERGE INTO audited a USING (VALUES (1)) v(i) ON a.id = v.i WHEN MATCHED THEN UPDATE SET memo = 'boom';

-- leak: a prepared write whose trigger speaks
PREPARE p (text) AS UPDATE audited SET memo = $1 WHERE id = 1;
EXECUTE p ('boom');

-- leak: a trigger made by the session
CREATE FUNCTION scratch.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', OLD.card; RETURN NEW; END $$;
CREATE TRIGGER tell BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION scratch.tell();
UPDATE customers SET visits = visits WHERE id = 1;

-- leak: a rule made by the session
CREATE RULE tell AS ON UPDATE TO other.customers DO ALSO INSERT INTO other.customers SELECT id, card FROM public.customers;
UPDATE other.customers SET card = card;
SELECT card FROM other.customers;
