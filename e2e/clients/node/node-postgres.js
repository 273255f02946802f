// node-postgres: client, pool, cursors by pg-query-stream, COPY by pg-copy-streams.
'use strict';
const { Client, Pool, types } = require('pg');
const { pipeline } = require('node:stream/promises');
const { Readable, Writable } = require('node:stream');
const QueryStream = require('pg-query-stream');
const copy = require('pg-copy-streams');
const { versions, step, expect, main } = require('./steps');

main(async () => {
  versions('pg', 'pg-query-stream', 'pg-copy-streams');
  const client = new Client({ application_name: 'orders', statement_timeout: 20000 });
  await step('connect', async () => {
    await client.connect();
    return (await client.query('SHOW application_name')).rows;
  });

  // What an application asks of a catalog when there is no library for it.
  await step('introspect columns', async () => (await client.query(
    `SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name <> 'customers_archive' ORDER BY 1, ordinal_position`)).rows);
  await step('introspect types of columns', async () => {
    const result = await client.query('SELECT * FROM customers LIMIT 0');
    return result.fields.map((field) => [field.name, field.dataTypeID, field.dataTypeModifier]);
  });
  await step('introspect enumeration', async () => {
    const { rows } = await client.query({ text: 'SELECT oid FROM pg_type WHERE typname = $1', values: ['category'] });
    types.setTypeParser(rows[0].oid, (value) => value.toUpperCase());
    return (await client.query('SELECT sku, category FROM products ORDER BY id')).rows;
  });

  await step('read all', async () => (await client.query('SELECT * FROM customers ORDER BY id')).rows);
  await step('read as arrays', async () =>
    (await client.query({ text: 'SELECT * FROM products ORDER BY id', rowMode: 'array' })).rows);
  await step('write insert', async () => (await client.query(
    'INSERT INTO customers (name, email, card, birth, credit) VALUES ($1, $2, $3, $4, $5) RETURNING *',
    ['Dan', 'q***@example.com', '************1234', '1990-01-01', 2000])).rows);
  await step('write update', async () => (await client.query(
    'UPDATE customers SET name = $2, email = $3 WHERE id = $1 RETURNING id, name, email', [1, 'Ada L', 'm***@example.com'])).rows);
  await step('write JSON, arrays and bytes', async () => (await client.query(
    `INSERT INTO products (sku, title, price, tags, attributes, picture) VALUES ($1, $2, $3, $4, $5, $6)
     RETURNING tags, attributes, picture`,
    ['P-1', 'Pen', '1.20', ['a', 'b "c"', null].slice(0, 2), { ink: ['blue'] }, Buffer.from([0, 1, 255])])).rows);
  await step('read any of', async () =>
    (await client.query('SELECT id, card FROM customers WHERE id = ANY($1::int[]) ORDER BY id', [[1, 3]])).rows);
  await step('read by a mask', async () =>
    (await client.query('SELECT id FROM customers WHERE email = $1', ['m***@example.org'])).rows);
  await step('write upsert', async () => (await client.query(
    `INSERT INTO products (sku, title, price) VALUES ($1, $2, $3)
     ON CONFLICT (sku) DO UPDATE SET title = excluded.title RETURNING sku, title, price`, ['H-1', 'Big hammer', 5])).rows);
  await step('read join as JSON', async () => (await client.query(
    `SELECT c.name, json_agg(json_build_object('order', o.id, 'total', order_total(o.id)) ORDER BY o.id) AS orders
     FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY c.id`)).rows);
  await step('read rows as JSON', async () => (await client.query('SELECT to_jsonb(c) AS row FROM customers c ORDER BY id')).rows);
  await step('read view', async () => (await client.query('SELECT * FROM customer_orders ORDER BY id')).rows);
  await step('write delete', async () => (await client.query('DELETE FROM products WHERE sku = $1', ['P-1'])).rowCount);

  await step('batch of statements', async () =>
    (await client.query("SELECT 1 AS one; SELECT card FROM customers ORDER BY id LIMIT 1; SET LOCAL work_mem = '8MB'")).map((result) => [result.command, result.rows]));
  await step('batch of queued queries', async () => {
    const all = [1, 2, 3].map((id) => client.query('SELECT name, email FROM customers WHERE id = $1', [id]));
    return (await Promise.all(all)).map((result) => result.rows);
  });
  await step('prepared by name', async () => {
    const by = { name: 'customer-by-id', text: 'SELECT * FROM customers WHERE id = $1' };
    const rows = [];
    for (const id of [1, 2, 3]) rows.push((await client.query({ ...by, values: [id] })).rows[0]);
    return rows;
  });
  await step('read binary', async () =>
    (await client.query({ text: 'SELECT c.id, birth IS NULL AS unborn, active, picture FROM customers c, products p WHERE p.id = 1 ORDER BY 1', binary: true })).rows);

  await step('transaction commit', async () => {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await client.query("UPDATE orders SET status = 'sent' WHERE id = 1");
    await client.query('COMMIT');
    return (await client.query('SELECT status FROM orders WHERE id = 1')).rows;
  });
  await step('transaction rollback', async () => {
    await client.query('BEGIN');
    await client.query('DELETE FROM order_items');
    await client.query('ROLLBACK');
    return (await client.query('SELECT count(*) FROM order_items')).rows;
  });
  await step('transaction savepoint', async () => {
    await client.query('BEGIN');
    await client.query('SAVEPOINT before');
    const { code } = await client.query('INSERT INTO order_items VALUES (99, 1, 1, 1)').catch((error) => error);
    const aborted = await client.query('SELECT 1').catch((error) => error.code);
    await client.query('ROLLBACK TO SAVEPOINT before');
    await client.query('INSERT INTO order_items VALUES (3, 2, 2, 5)');
    await client.query('COMMIT');
    return [code, aborted, (await client.query('SELECT * FROM order_items ORDER BY 1, 2')).rows];
  });

  await expect('error unique', () => client.query("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)"));
  await expect('error foreign key', () => client.query('DELETE FROM customers WHERE id = 1'));
  await expect('error check', () => client.query('UPDATE products SET price = $1 WHERE id = 1', [-1]));
  await expect('error not null', () => client.query('INSERT INTO orders (customer_id) VALUES (NULL)'));
  await expect('error syntax', () => client.query('SELEC 1'));
  await expect('error unknown table', () => client.query('SELECT * FROM nosuch'));
  await expect('error unknown column', () => client.query('SELECT nosuch FROM customers'));
  await expect('error hidden column', () => client.query('SELECT ssn FROM customers'));
  await expect('error cast', () => client.query('SELECT $1::int', ['x']));
  await expect('error division', () => client.query('SELECT 1 / $1::int', [0]));
  await step('error fields', async () => {
    const error = await client.query("INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)").catch((e) => e);
    return [error.constraint, error.table, error.schema, error.severity];
  });
  await step('error timeout', async () => {
    await client.query("SET statement_timeout = '50ms'");
    const { code } = await client.query('SELECT pg_sleep(5)').catch((error) => error);
    await client.query('RESET statement_timeout');
    return code;
  });

  await step('cursor stream', async () => {
    const seen = [];
    for await (const row of client.query(new QueryStream('SELECT i, card FROM generate_series(1, 250) AS i CROSS JOIN customers WHERE id = $1 ORDER BY i', [2], { batchSize: 100 }))) seen.push(row);
    return [seen.length, seen[0], seen[249]];
  });
  await step('cursor left early', async () => {
    for await (const row of client.query(new QueryStream('SELECT i FROM generate_series(1, 100000) AS i', [], { batchSize: 10 }))) {
      if (row.i === 15) break;
    }
    return (await client.query('SELECT 1 AS on')).rows;
  });
  await step('copy out', async () => {
    const parts = [];
    await pipeline(client.query(copy.to('COPY customers TO STDOUT WITH (FORMAT csv, HEADER)')),
      new Writable({ write(part, _, done) { parts.push(part); done(); } }));
    return Buffer.concat(parts).toString();
  });
  await step('copy in', async () => {
    const into = client.query(copy.from('COPY orders (customer_id, note) FROM STDIN'));
    await pipeline(Readable.from([Buffer.from('2\ta\\nb\n'), Buffer.from('2\t\\N\n3\tlast'), Buffer.from('\n')]), into);
    return [into.rowCount, (await client.query("SELECT customer_id, note FROM orders WHERE status = 'new' ORDER BY id")).rows];
  });
  await expect('copy of a bad row', () => pipeline(
    Readable.from([Buffer.from('x\ty\n')]), client.query(copy.from('COPY orders (customer_id, note) FROM STDIN'))));

  await step('session notifications', async () => {
    const heard = new Promise((resolve) => client.once('notification', ({ channel, payload }) => resolve([channel, payload])));
    await client.query('LISTEN news');
    await client.query("SELECT pg_notify('news', 'hello')");
    const got = await heard;
    await client.query('UNLISTEN *');
    return got;
  });
  await step('session notices', async () => {
    const heard = [];
    client.on('notice', (notice) => heard.push([notice.severity, notice.code, notice.message]));
    await client.query('DROP TABLE IF EXISTS never_made');
    return heard;
  });
  await step('schema of its own', async () => {
    await client.query('CREATE TABLE notes (id serial PRIMARY KEY, body text, customer int REFERENCES customers ON DELETE CASCADE, reply int REFERENCES notes)');
    await client.query('INSERT INTO notes (body, customer, reply) SELECT email, id, 1 FROM customers ORDER BY id');
    const { rows } = await client.query('SELECT * FROM notes ORDER BY id');
    await client.query('DROP TABLE notes');
    return rows;
  });
  await step('session temporary table', async () => {
    await client.query('CREATE TEMP TABLE picked AS SELECT id, card FROM customers');
    return (await client.query('SELECT * FROM picked ORDER BY id')).rows;
  });
  await client.end();

  const pool = new Pool({ max: 2 });
  await step('pool of two', async () => {
    const rows = await Promise.all([1, 2, 3, 4].map((i) => pool.query('SELECT $1::int * 2 AS twice', [i])));
    return rows.map((result) => result.rows[0].twice);
  });
  await step('pool reset', async () => {
    const one = await pool.connect();
    await one.query('SET search_path TO pg_catalog');
    await one.query('CREATE TEMP TABLE left_over (id int)');
    await one.query('DISCARD ALL');
    const { rows } = await one.query("SELECT current_setting('search_path') AS path, to_regclass('left_over') AS left_over");
    one.release();
    return rows;
  });
  await step('read at the end', async () => (await pool.query('SELECT id, name, email, card, birth, credit FROM customers ORDER BY id')).rows);
  await pool.end();
});
