// Sequelize: models of the shop, sync of its own, its query interface. Its enumerations come in DO blocks.
'use strict';
const { Sequelize, DataTypes, Op, QueryTypes } = require('sequelize');
const { versions, step, expect, main } = require('./steps');

main(async () => {
  versions('sequelize', 'pg');
  const sequelize = new Sequelize(process.env.PGDATABASE, process.env.PGUSER, process.env.PGPASSWORD, {
    dialect: 'postgres',
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    logging: false,
    pool: { max: 1 },
    dialectOptions: { application_name: 'orders', statement_timeout: 20000 },
  });
  const plain = { timestamps: false, underscored: true };
  const Customer = sequelize.define('customer', {
    id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true, autoIncrementIdentity: true },
    name: { type: DataTypes.TEXT, allowNull: false },
    email: { type: DataTypes.STRING(100), allowNull: false, unique: true },
    card: DataTypes.TEXT,
    birth: DataTypes.DATEONLY,
    credit: { type: DataTypes.DECIMAL(12, 2), allowNull: false, defaultValue: 0 },
    active: { type: DataTypes.BOOLEAN, allowNull: false, defaultValue: true },
  }, { ...plain, tableName: 'customers' });
  const Order = sequelize.define('order', {
    id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true },
    status: { type: DataTypes.STRING(10), allowNull: false, defaultValue: 'new' },
    note: DataTypes.TEXT,
  }, { ...plain, tableName: 'orders' });
  Customer.hasMany(Order, { foreignKey: { name: 'customerId', field: 'customer_id', allowNull: false } });
  Order.belongsTo(Customer, { foreignKey: { name: 'customerId', field: 'customer_id', allowNull: false } });
  const Label = sequelize.define('label', {
    id: { type: DataTypes.UUID, primaryKey: true },
    text: { type: DataTypes.STRING(20), unique: true },
  }, { ...plain, tableName: 'sq_labels' });
  const body = { type: DataTypes.TEXT, allowNull: false, comment: "what it's about" };
  const Note = sequelize.define('note', {
    kind: { type: DataTypes.ENUM('plain', 'rich'), defaultValue: 'plain' },
    kinds: DataTypes.ARRAY(DataTypes.ENUM('one', 'two')),
    body,
    tags: DataTypes.ARRAY(DataTypes.TEXT),
    extra: DataTypes.JSONB,
    during: DataTypes.RANGE(DataTypes.INTEGER),
  }, { timestamps: false, tableName: 'sq_notes', indexes: [{ fields: ['body'] }, { fields: ['tags'], using: 'gin' }] });
  Note.belongsTo(Label);
  const own = [Label, Note];
  const shown = (rows) => JSON.parse(JSON.stringify(rows));
  const queries = sequelize.getQueryInterface();

  await step('connect', async () => {
    await sequelize.authenticate();
    return sequelize.databaseVersion().then((version) => /^1[4-9]/.test(version));
  });
  await step('introspect tables', async () => (await queries.showAllTables()).map((table) => table.tableName ?? table).sort());
  for (const table of ['customers', 'products']) await step(`introspect ${table}`, () => queries.describeTable(table));
  await step('introspect indexes', async () => (await queries.showIndex('customers')).map(({ name, unique, primary, fields }) => [name, unique, primary, fields.map((field) => field.attribute)]).sort());
  await step('introspect foreign keys', () => queries.getForeignKeyReferencesForTable('order_items'));
  await step('introspect constraints', async () => (await queries.showConstraint('products')).filter(({ constraintName }) => !constraintName.endsWith('_not_null')).map(({ constraintName, constraintType }) => [constraintName, constraintType]));

  await step('schema sync', async () => {
    for (const model of own) await model.sync();
    return Object.keys(await Note.describe());
  });
  await step('schema sync again', async () => {
    for (const model of own) await model.sync();
    return Object.keys(await Label.describe());
  });
  await step('schema sync of a change', async () => {
    const Changed = sequelize.define('changed', {
      kind: { type: DataTypes.ENUM('plain', 'rich', 'odd'), defaultValue: 'plain' },
      body,
      rank: { type: DataTypes.SMALLINT, allowNull: false, defaultValue: 1 },
      tags: DataTypes.ARRAY(DataTypes.TEXT),
      extra: DataTypes.JSONB,
      during: DataTypes.RANGE(DataTypes.INTEGER),
    }, { timestamps: false, tableName: 'sq_notes' });
    await Changed.sync({ alter: { drop: false } });
    return Note.describe();
  });

  await step('read all', async () => shown(await Customer.findAll({ order: ['id'] })));
  await step('read relations', async () => shown(await Customer.findAll({ include: Order, order: ['id', [Order, 'id', 'ASC']] })));
  await step('read and count', async () => shown(await Customer.findAndCountAll({ where: { active: true }, order: [['name', 'DESC']], limit: 2, offset: 1 })));
  await step('read by key', async () => shown(await Customer.findByPk(2)));
  await step('read by a mask', async () => shown(await Customer.findOne({ where: { email: 'm***@example.org' } })));
  await step('read by a pattern', async () => shown(await Customer.findAll({ where: { [Op.or]: [{ name: { [Op.iLike]: 'a%' } }, { card: { [Op.endsWith]: '0003' } }] }, order: ['id'] })));
  await step('write create', async () => shown(await Customer.create({ name: 'Dan', email: 'q***@example.com', card: '************1234', birth: '1990-01-01', credit: 2000 })));
  await step('write find, create or find', async () => {
    const [order, made] = await Order.findCreateFind({ where: { note: 'found' }, defaults: { customerId: 3 } });
    return [shown(order), made];
  });
  await step('write what was read', async () => {
    const ada = await Customer.findOne({ where: { name: 'Ada' } });
    ada.set({ name: 'Ada L', card: ada.card });
    await ada.save({ fields: ['name', 'email', 'card', 'birth', 'credit', 'active'] });
    return shown(await ada.reload());
  });
  await step('write update', async () => shown(await Customer.update({ active: false }, { where: { name: 'Bob' }, returning: true })));
  await step('batch create', async () => shown(await Order.bulkCreate([{ customerId: 3, note: 'a' }, { customerId: 3, note: 'b' }])));
  await step('write upsert', async () => {
    const id = '00000000-0000-0000-0000-00000000000a';
    await Label.upsert({ id, text: 'old' });
    await Label.upsert({ id, text: 'new' });
    return shown(await Label.findAll());
  });
  await step('write types', async () => {
    await Note.create({ kind: 'rich', kinds: ['one', 'two'], body: 'first', tags: ['x', 'y "z"'], extra: { a: [1] }, during: [1, 5], labelId: '00000000-0000-0000-0000-00000000000a' });
    return shown(await Note.findAll({ where: { extra: { [Op.contains]: { a: [1] } }, tags: { [Op.contains]: ['x'] } }, include: Label }));
  });
  await step('write increment', async () => shown((await Customer.increment({ id: 0 }, { where: { id: 3 } }))[0][0]));
  await step('read group', async () => shown(await Order.findAll({
    attributes: ['status', [sequelize.fn('COUNT', sequelize.col('id')), 'orders']], group: ['status'], order: ['status'], raw: true })));
  await step('read aggregates', async () => [await Customer.max('card'), await Customer.sum('credit'), await Customer.count({ distinct: true, col: 'birth' })]);
  await step('prepared by text', async () => sequelize.query('SELECT name, card FROM customers WHERE id = $1', { bind: [2], type: QueryTypes.SELECT }));
  await step('read replacements', async () => sequelize.query("SELECT name FROM customers WHERE email = :email", { replacements: { email: "m***@example.com" }, type: QueryTypes.SELECT }));
  await step('write delete', async () => Order.destroy({ where: { note: 'b' } }));

  await step('transaction commit', async () => sequelize.transaction({ isolationLevel: 'SERIALIZABLE' }, async (transaction) => {
    await Order.update({ status: 'sent' }, { where: { id: 1 }, transaction });
    return shown(await Order.findByPk(1, { transaction, lock: transaction.LOCK.UPDATE }));
  }));
  await expect('transaction rollback', () => sequelize.transaction(async (transaction) => {
    await Order.update({ status: 'lost' }, { where: {}, transaction });
    await sequelize.query('SELECT 1 / 0', { transaction });
  }));
  await step('transaction savepoint', async () => sequelize.transaction(async (transaction) => {
    const code = await sequelize.transaction({ transaction }, (inner) => Order.create({ customerId: 99 }, { transaction: inner })).catch((error) => error.original.code);
    return [code, await Order.count({ transaction })];
  }));
  await expect('error unique', () => Label.create({ id: '00000000-0000-0000-0000-00000000000b', text: 'new' }));
  await expect('error foreign key', () => Customer.destroy({ where: { id: 1 } }));
  await expect('error unknown label', () => sequelize.query("UPDATE sq_notes SET kind = 'never'"));
  await expect('error hidden column', () => sequelize.query('SELECT ssn FROM customers'));

  // It makes a function for each call, which catches the error of its INSERT.
  await step('write find or create', async () => {
    const [label, made] = await Label.findOrCreate({ where: { text: 'found' }, defaults: { id: '00000000-0000-0000-0000-00000000000c' } });
    return [label.text, made];
  });
  await step('schema columns', async () => {
    await queries.addColumn('sq_labels', 'colour', { type: DataTypes.ENUM('red', 'blue'), defaultValue: 'red' });
    await queries.changeColumn('sq_labels', 'text', { type: DataTypes.STRING(40) });
    await queries.renameColumn('sq_labels', 'text', 'caption');
    await queries.addIndex('sq_labels', ['colour'], { concurrently: true });
    const found = await queries.describeTable('sq_labels');
    await queries.removeColumn('sq_labels', 'colour');
    return [found, Object.keys(await queries.describeTable('sq_labels'))];
  });
  await step('schema drop', async () => {
    for (const model of [...own].reverse()) await model.drop({});
    return (await queries.showAllTables()).map((table) => table.tableName ?? table).sort();
  });
  await step('read at the end', async () => sequelize.query('SELECT id, name, email, card, birth, credit FROM customers ORDER BY id', { type: QueryTypes.SELECT }));
  await sequelize.close();
});
