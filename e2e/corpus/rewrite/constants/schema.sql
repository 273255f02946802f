-- What the cases beside this file are decided on.
CREATE SCHEMA shop;
CREATE SCHEMA evil;
CREATE TABLE shop.customers (id int PRIMARY KEY, name text, card text, email varchar(60) UNIQUE, ssn text, region text NOT NULL, city text, updated timestamptz);
CREATE TABLE shop.orders (id int PRIMARY KEY, customer int REFERENCES shop.customers, region text NOT NULL, total numeric(10,2), note text);
CREATE TABLE shop.notes (id int PRIMARY KEY, body text, tags text[]);
CREATE TABLE shop.secrets (id int PRIMARY KEY, value text);
CREATE TABLE shop.measures (id int, at date, value text) PARTITION BY RANGE (at);
CREATE TABLE shop.measures_2026 PARTITION OF shop.measures FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW shop.cards AS SELECT id, card AS number FROM shop.customers;
CREATE FUNCTION shop.card_of(int) RETURNS text LANGUAGE sql AS 'SELECT card FROM shop.customers WHERE id = $1';
CREATE FUNCTION shop.shout(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE TYPE shop.mood AS ENUM ('sad', 'happy');
