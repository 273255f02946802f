-- A million rows of 200 bytes, and a place for them.
CREATE UNLOGGED TABLE bulk (line text NOT NULL);
INSERT INTO bulk SELECT rpad(i::text, 200, '.') FROM generate_series(1, 1000000) i;
CREATE UNLOGGED TABLE sink (line text NOT NULL);
