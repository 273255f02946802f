-- 10,000 relations of 20 columns, an email in each. In parts, as a transaction can hold only so many locks.
DO $$
BEGIN
    FOR i IN 1..10000 LOOP
        EXECUTE format(
            'CREATE TABLE t%s (id int, email text, %s)',
            i,
            (SELECT string_agg(format('c%s %s', c, (ARRAY['int', 'text', 'timestamptz'])[c % 3 + 1]), ', ') FROM generate_series(3, 20) c)
        );
        IF i % 1000 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$;
