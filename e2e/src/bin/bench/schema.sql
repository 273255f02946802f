-- What most workloads read.
CREATE TABLE customers (
    id int PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    card text NOT NULL,
    city text NOT NULL
);
INSERT INTO customers
SELECT i, 'Customer ' || i, 'customer' || i || '@example.com', lpad((4929000000000000 + i)::text, 16, '0'), 'City ' || i % 100
FROM generate_series(1, 100000) i;

CREATE TABLE orders (
    id int PRIMARY KEY,
    customer int NOT NULL REFERENCES customers,
    placed date NOT NULL,
    total numeric NOT NULL
);
INSERT INTO orders
SELECT i, i % 100000 + 1, date '2026-01-01' + i % 300, i % 977 + 0.5
FROM generate_series(1, 300000) i;
CREATE INDEX ON orders (customer);

CREATE TABLE items (
    parcel int NOT NULL REFERENCES orders,
    product text NOT NULL,
    quantity int NOT NULL
);
INSERT INTO items
SELECT i % 300000 + 1, 'Product ' || i % 500, i % 7 + 1
FROM generate_series(1, 600000) i;
CREATE INDEX ON items (parcel);
