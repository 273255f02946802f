// knex: query builder, schema builder, migrations, streams, over node-postgres.
'use strict';
const makeKnex = require('knex');
const { versions, step, expect, main } = require('./steps');

const sources = [
  {
    name: '1_labels',
    up: (knex) => knex.schema.createTable('kx_labels', (table) => {
      table.increments();
      table.string('text', 20).notNullable().unique();
      table.enu('kind', ['plain', 'rich'], { useNative: true, enumName: 'kx_kind' }).defaultTo('plain').index();
      table.jsonb('extra').defaultTo('{}');
      table.integer('customer_id').references('id').inTable('customers').onDelete('CASCADE');
      table.integer('parent_id').references('kx_labels.id');
      table.timestamps(true, true);
    }),
    down: (knex) => knex.schema.dropTable('kx_labels').raw('DROP TYPE kx_kind'),
  },
  {
    name: '2_changes',
    up: (knex) => knex.schema.alterTable('kx_labels', (table) => {
      table.integer('rank').defaultTo(1).comment("it's a rank");
      table.renameColumn('text', 'caption');
    }).alterTable('kx_labels', (table) => {
      table.string('caption', 40).notNullable().alter();
      table.dropTimestamps();
    }),
    down: (knex) => knex.schema.alterTable('kx_labels', (table) => {
      table.dropColumn('rank');
      table.renameColumn('caption', 'text');
    }),
  },
];
const migrationSource = {
  getMigrations: async () => sources,
  getMigrationName: (migration) => migration.name,
  getMigration: async (migration) => migration,
};

main(async () => {
  versions('knex', 'pg');
  const knex = makeKnex({
    client: 'pg',
    connection: {
      host: process.env.PGHOST,
      port: Number(process.env.PGPORT),
      user: process.env.PGUSER,
      password: process.env.PGPASSWORD,
      database: process.env.PGDATABASE,
      application_name: 'orders',
    },
    searchPath: ['public'],
    pool: { min: 0, max: 1 },
    migrations: { migrationSource, tableName: 'kx_migrations' },
  });
  await step('connect', async () => (await knex.raw('SELECT 1 AS one')).rows);
  await step('introspect tables', async () => [await knex.schema.hasTable('customers'), await knex.schema.hasTable('nosuch'), await knex.schema.hasColumn('customers', 'email'), await knex.schema.hasColumn('customers', 'ssn')]);
  await step('introspect columns', () => knex('customers').columnInfo());
  await step('schema migrate', async () => (await knex.migrate.latest())[1]);
  await step('schema migrate again', async () => (await knex.migrate.latest())[1]);
  await step('schema status', async () => [(await knex.migrate.list())[0].map(({ name }) => name), await knex.migrate.currentVersion()]);
  await step('schema as it is', () => knex('kx_labels').columnInfo());

  await step('read all', () => knex('customers').orderBy('id'));
  await step('read first', () => knex('customers').where({ id: 2 }).first('name', 'email'));
  await step('read join', () => knex('orders as o').join('customers as c', 'c.id', 'o.customer_id').select('o.id', 'c.email').orderBy('o.id'));
  await step('read by a mask', () => knex('customers').where('email', 'm***@example.org').pluck('id'));
  await step('read any of', () => knex('customers').whereIn('id', [1, 3]).whereNotNull('card').orderBy('id').select('id', 'card'));
  await step('read with', () => knex.with('active', knex('customers').where({ active: true })).from('active').count({ count: '*' }).max({ card: 'card' }));
  await step('read union', () => knex('customers').select('name').union(knex('products').select('title')).orderBy('name'));
  await step('read window', () => knex('orders').select('id').rowNumber('place', (over) => over.partitionBy('customer_id').orderBy('id')).orderBy('id'));
  await step('read json', () => knex('products').jsonExtract('attributes', '$.weight', 'weight').orderBy('id'));
  await step('write insert', () => knex('customers').insert({ name: 'Dan', email: 'q***@example.com', card: '************1234', birth: '1990-01-01', credit: 2000 }).returning('*'));
  await step('write update', () => knex('customers').where({ id: 1 }).update({ name: 'Ada L', card: '**********0001' }, ['id', 'name', 'card']));
  await step('write increment', () => knex('order_items').where({ order_id: 1, line: 1 }).increment('quantity', 2));
  await step('write upsert', () => knex('products').insert({ sku: 'H-1', title: 'Big hammer', price: 5 }).onConflict('sku').merge(['title']).returning(['sku', 'title']));
  await step('write or nothing', async () => (await knex('products').insert({ sku: 'H-1', title: 'x', price: 5 }).onConflict('sku').ignore().returning('id')).length);
  await step('write types', () => knex('kx_labels').insert([{ caption: 'a', kind: 'rich', extra: { a: [1] }, customer_id: 1 }, { caption: 'b', parent_id: 1 }]).returning(['id', 'caption', 'kind', 'extra', 'rank']));
  await step('write update from', () => knex('kx_labels as l').updateFrom('customers as c').where('c.id', knex.ref('l.customer_id')).update({ rank: 7 }));
  await step('batch insert', async () => (await knex.batchInsert('orders', Array.from({ length: 30 }, (_, i) => ({ customer_id: 3, note: `batch ${i}` })), 10).returning('id')).length);
  await step('write delete', () => knex('orders').where('note', 'like', 'batch%').del());
  await step('prepared bindings', async () => [(await knex.raw('SELECT name FROM customers WHERE id = ? AND ?? = ?', [2, 'active', true])).rows, (await knex.raw('SELECT name FROM customers WHERE id = :id', { id: 2 })).rows]);

  await step('transaction commit', () => knex.transaction(async (trx) => {
    await trx('orders').where({ id: 1 }).update({ status: 'sent' });
    return trx('orders').where({ id: 1 }).forUpdate().first('status');
  }, { isolationLevel: 'serializable' }));
  await expect('transaction rollback', () => knex.transaction(async (trx) => {
    await trx('order_items').del();
    await trx.raw('SELECT 1 / 0');
  }));
  await step('transaction savepoint', () => knex.transaction(async (trx) => {
    const code = await trx.transaction((inner) => inner('orders').insert({ customer_id: 99 })).catch((error) => error.code);
    return [code, await trx('orders').count()];
  }));
  await expect('transaction read only', () => knex.transaction((trx) => trx('orders').del(), { readOnly: true }));
  await expect('error unique', () => knex('kx_labels').insert({ caption: 'a' }));
  await expect('error foreign key', () => knex('orders').insert({ customer_id: 99 }));
  await expect('error check', () => knex('products').update({ price: -1 }));
  await expect('error hidden column', () => knex('customers').select('ssn'));
  await step('cursor stream', async () => {
    const seen = [];
    for await (const row of knex('customers').orderBy('id').select('id', 'card').stream()) seen.push(row);
    return seen;
  });
  await step('schema roll back', async () => (await knex.migrate.rollback(undefined, true))[1]);
  await step('schema drop', async () => {
    await knex.schema.dropTable('kx_migrations');
    await knex.schema.dropTable('kx_migrations_lock');
    return knex.schema.hasTable('kx_labels');
  });
  await step('pool after its connection', async () => {
    await knex.destroy();
    knex.initialize();
    return knex('customers').orderBy('id').select('id', 'name', 'email', 'card', 'birth', 'credit');
  });
  await knex.destroy();
});
