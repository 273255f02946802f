CREATE TABLE customers (
    id int PRIMARY KEY, name text NOT NULL, email text NOT NULL, card_number text NOT NULL, ssn text, city text NOT NULL
);
INSERT INTO customers VALUES
    (1, 'Ada Byron', 'ada@example.com', '4929 1111 2222 9012', '078-05-1120', 'Ulm'),
    (2, 'Bo Diaz', 'bo.diaz@example.org', '5312 3333 4444 7788', '219-09-9999', 'Lyon'),
    (3, 'Cy Young', 'cy@example.net', '3714 5555 6666 1003', '457-55-5462', 'Graz');
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, region text NOT NULL, item text NOT NULL, total numeric(8,2) NOT NULL
);
INSERT INTO orders SELECT i, 1 + i % 3, (ARRAY['eu', 'us', 'asia'])[1 + i % 3], (ARRAY['tea', 'ink', 'lamp', 'rope'])[1 + i % 4], 5 + i * 1.25
    FROM generate_series(1, 60) i;
CREATE INDEX ON orders (customer_id);
CREATE TABLE employees (id int PRIMARY KEY, name text NOT NULL, salary int NOT NULL);
INSERT INTO employees VALUES (1, 'Dee', 61000), (2, 'Eli', 87500);
CREATE FUNCTION card_of(wanted int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT card_number FROM customers WHERE id = wanted';

-- What the sessions run as. The grants are wide on purpose: the gate is what holds here.
CREATE ROLE reporting_ro;
CREATE ROLE support_rw;
GRANT ALL ON ALL TABLES IN SCHEMA public TO reporting_ro, support_rw;
-- The login that only the gate knows.
CREATE ROLE postern LOGIN PASSWORD 'known-to-the-gate-only' IN ROLE reporting_ro, support_rw;
ANALYZE;
