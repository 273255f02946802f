-- The same database with other hidden values, as many and as long: nobody who is shown masks can tell the two apart.
UPDATE customers SET email = 'm' || md5(email) || '@example.com', card = left(reverse(md5(card)), 10) || right(card, 4), ssn = 'other' || id,
    note = left(repeat(md5(note), 2), length(note)), secret = CASE WHEN id % 2 = 0 THEN '7' END, label = '5',
    birth = birth + (250 - extract(doy FROM birth)::int), seen = seen - interval '20 minutes', balance = balance + (id % 7) * 100,
    salary = id - 5, doc = CASE WHEN id % 3 = 0 THEN '[1, 2]'::jsonb END, tags = CASE WHEN id % 2 = 0 THEN ARRAY['0'] END;
UPDATE orders SET customer_id = id % 4, item = CASE id % 3 WHEN 0 THEN 'apple' ELSE id::text END, amount = id % 3, placed = CASE WHEN id % 4 > 1 THEN placed END WHERE region <> 'eu';
UPDATE people SET phone = left(repeat(md5(phone), 2), length(phone));
UPDATE managers SET bonus = id - 6;
UPDATE events SET payload = CASE WHEN id % 2 = 0 THEN '0' END;
UPDATE events SET level = 3 + id WHERE level >= 3;
UPDATE parcels SET item = left(item, 1) || left(repeat(md5(item), 2), length(item) - 1), order_id = CASE WHEN stage = 'lost' THEN 3 ELSE order_id END, weight = CASE WHEN stage = 'lost' THEN 0 ELSE weight END;
