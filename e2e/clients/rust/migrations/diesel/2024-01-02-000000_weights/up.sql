ALTER TABLE parcels ADD COLUMN weight int CHECK (weight > 0);
INSERT INTO parcels (order_id, weight) SELECT id, id * 100 FROM orders WHERE id < 3;
