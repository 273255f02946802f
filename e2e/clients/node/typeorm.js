// TypeORM: entities of the shop, schema synchronization of its own tables, repositories, migrations.
'use strict';
require('reflect-metadata');
const { DataSource, EntitySchema, In, Table } = require('typeorm');
const { versions, step, expect, main } = require('./steps');

const Customer = new EntitySchema({
  name: 'Customer', tableName: 'customers',
  columns: {
    id: { type: 'int', primary: true, generated: 'identity', generatedIdentity: 'BY DEFAULT' },
    name: { type: 'text' },
    email: { type: 'varchar', length: 100, unique: true },
    card: { type: 'text', nullable: true },
    birth: { type: 'date', nullable: true },
    credit: { type: 'numeric', precision: 12, scale: 2, default: 0 },
    active: { type: 'boolean', default: true },
  },
  relations: { orders: { type: 'one-to-many', target: 'Order', inverseSide: 'customer' } },
});
const Order = new EntitySchema({
  name: 'Order', tableName: 'orders',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' },
    status: { type: 'varchar', length: 10, default: 'new' },
    note: { type: 'text', nullable: true },
  },
  relations: { customer: { type: 'many-to-one', target: 'Customer', joinColumn: { name: 'customer_id' }, inverseSide: 'orders' } },
});
// Tables that TypeORM makes; with more columns and labels later.
const note = (kinds, more) => new EntitySchema({
  name: 'Note', tableName: 'to_notes',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' },
    kind: { type: 'enum', enum: kinds, default: 'plain' },
    body: { type: 'text', comment: "what it's about" },
    ...more,
    tags: { type: 'text', array: true, default: '{}' },
    extra: { type: 'jsonb', nullable: true },
    made: { type: 'timestamptz', createDate: true, select: false },
    changed: { type: 'timestamptz', updateDate: true, select: false },
    gone: { type: 'timestamptz', deleteDate: true, nullable: true, select: false },
    version: { type: 'int', version: true },
  },
  indices: [{ name: 'to_notes_body', columns: ['body'] }],
  uniques: [{ name: 'to_notes_kind_body', columns: ['kind', 'body'] }],
  checks: [{ name: 'to_notes_check', expression: "body <> ''" }],
  relations: {
    labels: { type: 'many-to-many', target: 'Label', joinTable: { name: 'to_note_labels' } },
  },
});
const Label = new EntitySchema({
  name: 'Label', tableName: 'to_labels',
  columns: { id: { type: 'uuid', primary: true }, text: { type: 'varchar', length: 20 } },
});

class AddColour {
  name = 'AddColour1700000000000';
  async up(runner) {
    await runner.query(`ALTER TABLE "to_labels" ADD "colour" character varying NOT NULL DEFAULT 'red'`);
    await runner.createTable(new Table({ name: 'to_extra', columns: [{ name: 'id', type: 'int', isPrimary: true }] }));
  }
  async down(runner) {
    await runner.dropTable('to_extra');
    await runner.query('ALTER TABLE "to_labels" DROP COLUMN "colour"');
  }
}

const settings = (entities) => ({
  type: 'postgres',
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  username: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  ssl: false,
  uuidExtension: 'pgcrypto',
  installExtensions: false,
  applicationName: 'orders',
  migrationsTableName: 'to_migrations',
  migrations: [AddColour],
  entities,
});

main(async () => {
  versions('typeorm', 'pg');
  const source = new DataSource(settings([Customer, Order]));
  await step('connect', async () => (await source.initialize()).isInitialized);
  const runner = source.createQueryRunner();

  await step('introspect tables', async () => (await runner.getTables(['customers', 'orders', 'products', 'order_items'])).sort((a, b) => a.name.localeCompare(b.name)).map((table) => ({
    name: table.name.split('.').pop(),
    columns: table.columns.map((c) => [c.name, c.type, c.length, c.isNullable, c.default ?? null, c.isPrimary, c.isGenerated, c.enum ?? null, c.comment ?? null]),
    keys: table.foreignKeys.map((key) => [key.name, key.columnNames, key.referencedColumnNames, key.onDelete]).sort(),
    indices: table.indices.map((index) => [index.name, index.columnNames, index.isUnique, index.where ?? null]).sort(),
    uniques: table.uniques.map((unique) => [unique.name, unique.columnNames]).sort(),
    checks: table.checks.map((check) => [check.name, check.expression]).sort(),
  })));
  await step('introspect schemas', async () => [await runner.getSchemas(), await runner.hasTable('customers'), await runner.hasColumn('customers', 'email'), await runner.hasColumn('customers', 'ssn'), await runner.getCurrentSchema()]);

  const first = new DataSource(settings([note(['plain', 'rich'], {}), Label]));
  const own = new DataSource(settings([note(['plain', 'rich', 'odd'], { rank: { type: 'smallint', default: 1 } }), Label]));
  const left = async (source) => (await source.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query);
  await step('schema plan', async () => {
    await first.initialize();
    return left(first);
  });
  await step('schema synchronize', async () => {
    await first.synchronize();
    return left(first);
  });
  await step('schema synchronize changes', async () => {
    await own.initialize();
    const before = await left(own);
    await own.synchronize();
    return [before, await left(own)];
  });
  await first.destroy();
  await step('schema migrations up', async () => (await own.runMigrations()).map((migration) => migration.name));
  await step('schema migrations down', async () => {
    await own.undoLastMigration();
    return [await runner.hasTable('to_extra'), await own.showMigrations()];
  });

  const customers = source.getRepository('Customer');
  const orders = source.getRepository('Order');
  const notes = own.getRepository('Note');
  const labels = own.getRepository('Label');
  await step('read all', async () => customers.find({ order: { id: 'ASC' } }));
  await step('read relations', async () => customers.find({ relations: { orders: true }, order: { id: 'ASC', orders: { id: 'ASC' } } }));
  await step('read and count', async () => customers.findAndCount({ where: { active: true }, order: { name: 'DESC' }, take: 2, skip: 1 }));
  await step('read any of', async () => customers.findBy({ id: In([1, 3]) }));
  await step('read by a mask', async () => customers.findOneBy({ email: 'm***@example.org' }));
  await step('write new', async () => customers.save({ name: 'Dan', email: 'q***@example.com', card: '************1234', birth: '1990-01-01', credit: 2000 }));
  await step('write what was read', async () => {
    const ada = await customers.findOneByOrFail({ name: 'Ada' });
    ada.name = 'Ada L';
    await customers.save(ada);
    return customers.findOneBy({ id: ada.id });
  });
  await step('write update', async () => [(await customers.update({ name: 'Bob' }, { active: false })).affected, await customers.countBy({ active: false })]);
  await step('batch insert', async () => (await orders.insert([{ customer: { id: 3 }, note: 'a' }, { customer: { id: 3 }, note: 'b' }])).identifiers);
  await step('write upsert', async () => {
    await labels.upsert([{ id: '00000000-0000-0000-0000-00000000000a', text: 'old' }], ['id']);
    await labels.upsert([{ id: '00000000-0000-0000-0000-00000000000a', text: 'new' }], ['id']);
    return labels.find();
  });
  await step('write many to many', async () => {
    await notes.save({ body: 'first', kind: 'rich', tags: ['x', 'y z'], extra: { a: [1] }, labels: [{ id: '00000000-0000-0000-0000-00000000000a', text: 'new' }] });
    return notes.find({ relations: { labels: true } });
  });
  await step('write soft delete', async () => {
    await notes.softDelete({ body: 'first' });
    const without = await notes.count();
    await notes.restore({ body: 'first' });
    return [without, await notes.count()];
  });
  await step('read by query builder', async () => orders.createQueryBuilder('o').innerJoin('o.customer', 'c')
    .select('c.name', 'name').addSelect('c.card', 'card').addSelect('count(*)', 'count').where('o.status <> :status', { status: 'done' })
    .groupBy('c.id').orderBy('c.id').getRawMany());
  await step('transaction lock', async () => source.transaction(async (manager) =>
    manager.getRepository('Customer').createQueryBuilder('c').setLock('pessimistic_write').where('c.id = :id', { id: 1 }).getOne()));
  await step('write delete', async () => (await orders.delete({ note: 'b' })).affected);

  await step('transaction commit', async () => source.transaction('SERIALIZABLE', async (manager) => {
    await manager.update('Order', { id: 1 }, { status: 'sent' });
    return manager.findOneBy('Order', { id: 1 });
  }));
  await expect('transaction rollback', () => source.transaction(async (manager) => {
    await manager.query('DELETE FROM order_items');
    await manager.query('SELECT 1 / 0');
  }));
  await step('transaction savepoint', async () => source.transaction(async (manager) => {
    const code = await manager.transaction((inner) => inner.insert('Order', { customer: { id: 99 } })).catch((error) => error.code);
    return [code, await manager.count('Order')];
  }));
  await expect('error unique', () => notes.insert({ kind: 'rich', body: 'first' }));
  await expect('error check', () => notes.insert({ body: '' }));
  await expect('error not null', () => customers.insert({ email: 'q***@example.com' }));
  await expect('error foreign key', () => customers.delete({ id: 1 }));
  await expect('error hidden column', () => source.query('SELECT ssn FROM customers'));
  await step('cursor stream', async () => {
    const seen = [];
    for await (const row of await customers.createQueryBuilder('c').orderBy('c.id').stream()) seen.push([row.c_id, row.c_card]);
    return seen;
  });
  await step('schema drop', async () => {
    for (const table of ['to_note_labels', 'to_notes', 'to_labels', 'to_migrations']) await runner.dropTable(table, true);
    return runner.hasTable('to_notes');
  });
  await own.destroy();
  await runner.release();
  await step('read at the end', async () => source.query('SELECT id, name, email, card, birth, credit FROM customers ORDER BY id'));
  await source.destroy();
});
