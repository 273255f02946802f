// postgres.js: tagged templates, which it prepares and pipelines, cursors, COPY by streams, subscriptions.
'use strict';
const { pipeline } = require('node:stream/promises');
const { Readable, Writable } = require('node:stream');
const postgres = require('postgres');
const { versions, step, expect, main } = require('./steps');

const options = () => ({
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  ssl: false,
});

main(async () => {
  versions('postgres');
  const notices = [];
  const sql = postgres({ ...options(), max: 1, connection: { application_name: 'orders' }, onnotice: (notice) => notices.push([notice.severity, notice.code, notice.message]) });
  // With the types of the database fetched (its query on pg_catalog.pg_type), arrays are parsed.
  await step('connect and fetch types', async () => [...await sql`SELECT tags FROM products ORDER BY id`]);
  await step('introspect by describe', async () => {
    const { columns, types } = await sql`SELECT * FROM customers WHERE id = ${0}`.describe();
    return [types, columns.map((column) => [column.name, column.type])];
  });
  await step('read all', async () => [...await sql`SELECT * FROM customers ORDER BY id`]);
  await step('read values', async () => [...await sql`SELECT * FROM products ORDER BY id`.values()]);
  await step('read raw', async () => [...await sql`SELECT id, email FROM customers ORDER BY id`.raw()]);
  await step('write insert', async () => [...await sql`INSERT INTO customers ${sql({ name: 'Dan', email: 'q***@example.com', card: '************1234', birth: '1990-01-01', credit: 2000 })} RETURNING *`]);
  await step('write many', async () => [...await sql`INSERT INTO orders ${sql([{ customer_id: 3, note: 'a' }, { customer_id: 3, note: 'b' }])} RETURNING id, note`]);
  await step('write update', async () => [...await sql`UPDATE customers SET ${sql({ name: 'Ada L', card: '**********0001' })} WHERE id = ${1} RETURNING id, name, card`]);
  await step('write update of many', async () => [...await sql`
    UPDATE products SET price = given.price::numeric FROM (VALUES ${sql([['H-1', '13.00'], ['B-1', '4.00']])}) AS given (sku, price)
    WHERE products.sku = given.sku RETURNING products.sku, products.price`]);
  await step('write JSON, arrays and bytes', async () => [...await sql`
    INSERT INTO products (sku, title, price, tags, attributes, picture)
    VALUES ('P-1', 'Pen', 1.20, ${['a', 'b "c"']}, ${sql.json({ ink: ['blue'] })}, ${Buffer.from([0, 1, 255])}) RETURNING tags, attributes, picture`]);
  await step('read a list', async () => [...await sql`SELECT id, card FROM customers WHERE id IN ${sql([1, 3])} ORDER BY id`]);
  await step('read named columns', async () => [...await sql`SELECT ${sql(['name', 'email', 'birth'])} FROM ${sql('customers')} ORDER BY id`]);
  await step('read by a mask', async () => [...await sql`SELECT id FROM customers WHERE card LIKE ${'%0002'}`]);
  await step('write delete', async () => (await sql`DELETE FROM products WHERE sku = 'P-1'`).count);
  await step('batch of statements', async () => (await sql`SELECT 1 AS one; SELECT card FROM customers ORDER BY id LIMIT 1`.simple()).map((rows) => [...rows]));
  await step('prepared by text', async () => [...await sql.unsafe('SELECT name FROM customers WHERE id = $1', [2], { prepare: true })]);
  await step('batch pipeline', async () => (await Promise.all([1, 2, 3, 4].map((id) => sql`SELECT id, name, email FROM customers WHERE id = ${id}`))).map((rows) => [...rows]));
  await step('batch pipeline with an error', async () => (await Promise.allSettled([
    sql`SELECT name FROM customers WHERE id = ${1}`,
    sql`SELECT ${0}::int / 0 AS never`,
    sql`SELECT nosuch FROM customers`,
    sql`SELECT card FROM customers WHERE id = ${1}`,
  ])).map(({ value, reason }) => (reason ? reason.code : [...value])));

  await step('transaction commit', async () => sql.begin('isolation level serializable', async (sql) => {
    await sql`UPDATE orders SET status = 'sent' WHERE id = 1`;
    return [...await sql`SELECT status FROM orders WHERE id = 1`];
  }));
  await expect('transaction rollback', () => sql.begin(async (sql) => {
    await sql`DELETE FROM order_items`;
    await sql`SELECT 1 / 0`;
  }));
  await step('transaction savepoint', async () => sql.begin(async (sql) => {
    const code = await sql.savepoint((sql) => sql`INSERT INTO order_items VALUES (99, 1, 1, 1)`).catch((error) => error.code);
    await sql`INSERT INTO order_items VALUES (3, 2, 2, 5)`;
    return [code, [...await sql`SELECT * FROM order_items ORDER BY 1, 2`]];
  }));
  await step('transaction pipelined', async () => {
    const results = await sql.begin((sql) => [sql`UPDATE orders SET note = 'piped' WHERE id = 2`, sql`SELECT note FROM orders WHERE id = 2`]);
    return [...results[1]];
  });

  await expect('error unique', () => sql`INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)`);
  await expect('error foreign key', () => sql`DELETE FROM customers WHERE id = 1`);
  await expect('error check', () => sql`UPDATE products SET price = ${-1} WHERE id = 1`);
  await expect('error syntax', () => sql.unsafe('SELEC 1'));
  await expect('error unknown table', () => sql`SELECT * FROM nosuch`);
  await expect('error hidden column', () => sql`SELECT ssn FROM customers`);
  await expect('error cast', () => sql`SELECT id FROM customers WHERE id = ${'x'}`);
  await step('error fields', async () => {
    const error = await sql`INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)`.catch((e) => e);
    return [error.constraint_name, error.table_name, error.schema_name, error.severity];
  });

  await step('cursor in batches', async () => {
    const sizes = [];
    await sql`SELECT i, card FROM generate_series(1, 250) AS i CROSS JOIN customers WHERE id = 2`.cursor(100, (rows) => { sizes.push([rows.length, rows[0].card]); });
    return sizes;
  });
  await step('cursor left early', async () => {
    for await (const [row] of sql`SELECT i FROM generate_series(1, 100000) AS i`.cursor()) {
      if (row.i === 3) break;
    }
    return [...await sql`SELECT 1 AS on`];
  });
  await step('cursor row by row', async () => {
    let cards = 0;
    await sql`SELECT card FROM customers`.forEach(() => { cards += 1; });
    return cards;
  });
  await step('copy out', async () => {
    const parts = [];
    await pipeline(await sql`COPY (SELECT id, email, card FROM customers ORDER BY id) TO STDOUT`.readable(),
      new Writable({ write(part, _, done) { parts.push(part); done(); } }));
    return Buffer.concat(parts).toString();
  });
  await step('copy in', async () => {
    await pipeline(Readable.from([Buffer.from('2\ta\\nb\n'), Buffer.from('2\t\\N\n3\tlast\n')]), await sql`COPY orders (customer_id, note) FROM STDIN`.writable());
    return [...await sql`SELECT customer_id, note FROM orders ORDER BY id`];
  });
  await step('error cancel', async () => {
    const slow = sql`SELECT pg_sleep(20)`;
    setTimeout(() => slow.cancel(), 200);
    return slow.then(() => 'FAILED not cancelled', (error) => error.code);
  });
  await step('session notifications', async () => {
    let heard;
    const got = new Promise((resolve) => { heard = resolve; });
    const { unlisten } = await sql.listen('news', heard);
    await sql.notify('news', 'hello');
    const payload = await got;
    await unlisten();
    return payload;
  });
  await step('session application name', async () => [(await sql`SHOW application_name`)[0], (await sql`SELECT current_setting('application_name') AS set`)[0]]);
  await step('session notices', async () => {
    notices.length = 0;
    await sql`DROP TABLE IF EXISTS never_made`;
    return notices;
  });
  await step('schema of its own', async () => {
    await sql`CREATE TABLE notes (id serial PRIMARY KEY, body text)`;
    await sql`INSERT INTO notes (body) SELECT email FROM customers ORDER BY id`;
    const rows = [...await sql`SELECT * FROM notes ORDER BY id`];
    await sql`ALTER TABLE notes ADD COLUMN seen boolean NOT NULL DEFAULT false`;
    const after = [...await sql`SELECT * FROM notes WHERE id = ${1}`];
    await sql`DROP TABLE notes`;
    return [rows, after];
  });
  await step('pool reset', async () => {
    const reserved = await sql.reserve();
    await reserved`SET search_path TO pg_catalog`;
    await reserved`DISCARD ALL`;
    const rows = [...await reserved`SELECT current_setting('search_path') AS path`];
    reserved.release();
    return rows;
  });
  await sql.end();

  const many = postgres({ ...options(), max: 3, prepare: false });
  await step('pool without prepared statements', async () => (await Promise.all([1, 2, 3, 4].map((i) => many`SELECT ${i}::int * 2 AS twice`))).map((rows) => rows[0].twice));
  await step('read at the end', async () => [...await many`SELECT id, name, email, card, birth, credit FROM customers ORDER BY id`]);
  await many.end();
});
