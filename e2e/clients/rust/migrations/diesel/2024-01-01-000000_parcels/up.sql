CREATE TYPE parcel_state AS ENUM ('packed', 'sent');
CREATE TABLE parcels (
    id bigserial PRIMARY KEY,
    order_id int NOT NULL REFERENCES orders (id),
    state parcel_state NOT NULL DEFAULT 'packed'
);
CREATE INDEX parcels_order ON parcels (order_id);
