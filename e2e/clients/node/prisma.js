// Prisma: `db pull` and `db push` by its schema engine (as WebAssembly, over node-postgres), then the client that it
// generates from what was pulled. Its native engines are no npm packages; these do the same and need nothing else.
'use strict';
const { execFileSync } = require('node:child_process');
const { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { ColumnTypeEnum, bindMigrationAwareSqlAdapterFactory } = require('@prisma/driver-adapter-utils');
const { Pool } = require('pg');
const { PrismaPg } = require('@prisma/adapter-pg');
const { versions, step, expect, main } = require('./steps');

// The adapter has no name for the type "char", in which the catalogs tell the engine what kind a constraint is. It goes
// through as an array of it, which the adapter knows.
const CHAR = 18;
const CHAR_ARRAY = 1002;
class CatalogPool extends Pool {
  async query(...query) {
    const result = await super.query(...query);
    for (const field of result.fields) if (field.dataTypeID === CHAR) field.dataTypeID = CHAR_ARRAY;
    return result;
  }
}
class CatalogAdapter extends PrismaPg {
  async connect() {
    const connected = await super.connect();
    const queryRaw = connected.queryRaw.bind(connected);
    const known = (type) => (type === ColumnTypeEnum.CharacterArray ? ColumnTypeEnum.Character : type);
    connected.queryRaw = async (query) => {
      const result = await queryRaw(query);
      return { ...result, columnTypes: result.columnTypes.map(known) };
    };
    return connected;
  }
}

const adapter = () => new PrismaPg({ application_name: 'orders', max: 2 });
const HEADER = (output) => `generator client {
  provider        = "prisma-client-js"
  output          = ${JSON.stringify(output)}
  previewFeatures = ["partialIndexes"]
}

datasource db {
  provider = "postgresql"
}
`;
const OWN = `
enum PrKind {
  plain
  rich
}

model pr_labels {
  id    String     @id @default(uuid()) @db.Uuid
  text  String     @unique @db.VarChar(20)
  notes pr_notes[]
}

model pr_notes {
  id    Int         @id @default(autoincrement())
  kind  PrKind      @default(plain)
  body  String
  tags  String[]
  extra Json?
  at    DateTime    @default(now())
  labels pr_labels[]

  @@index([body])
}
`;

global.PRISMA_WASM_PANIC_REGISTRY = { set_message: console.error };
/** The schema engine, made to speak by node-postgres. */
async function schemaEngine(schema) {
  const folder = path.dirname(require.resolve('@prisma/schema-engine-wasm'));
  const engine = await import(pathToFileURL(path.join(folder, 'schema_engine_bg.js')));
  const module = readFileSync(path.join(folder, 'schema_engine_bg.wasm'));
  const { instance } = await WebAssembly.instantiate(module, { './schema_engine_bg.js': engine });
  engine.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  return engine.SchemaEngine.new({ datamodels: [['schema.prisma', schema]] }, () => {}, bindMigrationAwareSqlAdapterFactory(new CatalogAdapter(new CatalogPool({ max: 1 }))));
}

main(async () => {
  versions('prisma', '@prisma/client', '@prisma/adapter-pg', '@prisma/schema-engine-wasm', 'pg');
  const folder = mkdtempSync(path.join(tmpdir(), 'prisma-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const header = HEADER(path.join(folder, 'client'));
  const filters = { externalTables: [], externalEnums: [] };
  const schema = (content) => ({ files: [{ path: 'schema.prisma', content }] });
  let engine;
  await step('connect', async () => {
    engine = await schemaEngine(header);
    return (await engine.version()).length > 0;
  });
  const pull = async (content) => (await engine.introspect({
    schema: schema(content), baseDirectoryPath: folder, force: false, compositeTypeDepth: -1, namespaces: null,
  })).schema.files[0].content.replace(header, '');

  let pulled = '';
  await step('introspect db pull', async () => { pulled = await pull(header); return pulled; });
  await step('schema diff', async () => (await engine.diff({
    from: { tag: 'schemaDatasource', ...schema(header + pulled), configDir: folder },
    to: { tag: 'schemaDatamodel', ...schema(header + pulled + OWN) },
    script: true, exitCode: null, shadowDatabaseUrl: null, filters,
  })).stdout);
  await step('schema db push', async () => {
    const { executedSteps, unexecutable, warnings } = await engine.schemaPush({ force: false, schema: schema(header + pulled + OWN), filters });
    return [executedSteps > 0, unexecutable, warnings];
  });
  await step('introspect what was pushed', async () => { pulled = await pull(header); return pulled; });
  await step('schema generate', () => {
    writeFileSync(path.join(folder, 'schema.prisma'), header + pulled);
    writeFileSync(path.join(folder, 'prisma.config.mjs'), "export default { schema: 'schema.prisma', datasource: { url: 'postgresql://' } };\n");
    const cli = require.resolve('prisma/build/index.js');
    symlinkSync(path.resolve(path.dirname(cli), '..', '..'), path.join(folder, 'node_modules'));
    // The client needs no engine of its own: naming one keeps the command from looking for it elsewhere.
    const environment = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, PRISMA_HIDE_UPDATE_MESSAGE: '1', CHECKPOINT_DISABLE: '1' };
    execFileSync(process.execPath, [cli, 'generate'], { cwd: folder, env: environment, stdio: 'pipe' });
    return 'done';
  });

  const { PrismaClient, Prisma } = require(path.join(folder, 'client'));
  const prisma = new PrismaClient({ adapter: adapter() });
  await step('read all', () => prisma.customers.findMany({ orderBy: { id: 'asc' } }));
  await step('read relations', () => prisma.customers.findMany({ include: { orders: { include: { order_items: { include: { products: true } } } } }, orderBy: { id: 'asc' } }));
  await step('read a page', () => prisma.customers.findMany({ where: { OR: [{ name: { startsWith: 'A', mode: 'insensitive' } }, { card: { endsWith: '0003' } }] }, cursor: { id: 1 }, skip: 1, take: 1, select: { id: true, card: true } }));
  await step('read by a mask', () => prisma.customers.findUnique({ where: { email: 'm***@example.org' } }));
  await step('batch of keys', () => Promise.all([1, 2, 3].map((id) => prisma.customers.findUnique({ where: { id }, select: { name: true, email: true } }))));
  await step('write create', () => prisma.customers.create({ data: { name: 'Dan', email: 'q***@example.com', card: '************1234', birth: new Date('1990-01-01'), credit: 2000 } }));
  await step('write nested', () => prisma.orders.create({ data: { note: 'nested', customers: { connect: { id: 3 } }, order_items: { create: [{ line: 1, product_id: 1n }, { line: 2, product_id: 2n, quantity: 3 }] } }, include: { order_items: true } }));
  await step('batch create', () => prisma.orders.createManyAndReturn({ data: [{ customer_id: 3, note: 'a' }, { customer_id: 3, note: 'b' }], select: { id: true, note: true } }));
  await step('write what was read', async () => {
    const { id, ...ada } = await prisma.customers.findFirstOrThrow({ where: { name: 'Ada' } });
    return prisma.customers.update({ where: { id }, data: { ...ada, name: 'Ada L' } });
  });
  await step('write update', () => prisma.customers.updateMany({ where: { name: 'Bob' }, data: { active: false } }));
  await step('write upsert', async () => {
    const where = { sku: 'H-1' };
    const create = { sku: 'H-1', title: 'Hammer', price: 1 };
    return (await prisma.products.upsert({ where, create, update: { title: 'Big hammer', price: { increment: 1 } } })).title;
  });
  await step('write types', async () => {
    await prisma.pr_notes.create({ data: { kind: 'rich', body: 'first', tags: ['x', 'y "z"'], extra: { a: [1] }, at: new Date(0), pr_labels: { create: { id: '00000000-0000-0000-0000-00000000000a', text: 'new' } } } });
    return prisma.pr_notes.findMany({ where: { tags: { has: 'x' }, extra: { path: ['a'], equals: [1] } }, include: { pr_labels: true } });
  });
  await step('read bytes and decimals', () => prisma.products.findMany({ where: { price: { gte: new Prisma.Decimal('9.00') }, category: { in: ['tool', 'book'] } }, orderBy: { sku: 'asc' } }));
  await step('read aggregates', () => prisma.customers.aggregate({ _count: true, _max: { card: true }, _sum: { credit: true } }));
  await step('read group', () => prisma.orders.groupBy({ by: ['status'], _count: { _all: true }, orderBy: { status: 'asc' } }));
  await step('prepared raw', () => prisma.$queryRaw`SELECT name, card FROM customers WHERE id = ${2}`);
  await step('prepared raw list', () => prisma.$queryRaw`SELECT id FROM customers WHERE id IN (${Prisma.join([1, 3])}) ORDER BY id`);
  await step('write raw', () => prisma.$executeRaw`UPDATE orders SET note = 'raw' WHERE id = ${2}`);
  await step('write delete', () => prisma.orders.deleteMany({ where: { note: 'b' } }));

  await step('transaction batch', async () => {
    const [, order] = await prisma.$transaction([
      prisma.orders.update({ where: { id: 1 }, data: { status: 'sent' } }),
      prisma.orders.findUnique({ where: { id: 1 } }),
    ], { isolationLevel: 'Serializable' });
    return order;
  });
  await expect('transaction rollback', () => prisma.$transaction(async (transaction) => {
    await transaction.order_items.deleteMany();
    await transaction.$queryRaw`SELECT 1 / 0`;
  }));
  await step('transaction rolled back', () => prisma.order_items.count());
  const code = (promise) => promise.then(() => 'FAILED no error', (error) => [error.code, error.meta?.driverAdapterError?.cause.originalCode]);
  await step('error unique', () => code(prisma.products.create({ data: { sku: 'B-1', title: 'again', price: 1 } })));
  await step('error foreign key', () => code(prisma.customers.delete({ where: { id: 1 } })));
  await step('error not found', () => code(prisma.customers.findUniqueOrThrow({ where: { id: 99 } })));
  await step('error hidden column', () => code(prisma.$queryRaw`SELECT ssn FROM customers`));
  await step('read at the end', () => prisma.$queryRaw`SELECT id, name, email, card, birth, credit FROM customers ORDER BY id`);
  await prisma.$disconnect();

  await step('schema drop', async () => {
    const left = pulled.replace(/(model|enum) (pr_|PrKind|_pr_)[^}]*}\n*/g, '');
    const { unexecutable } = await engine.schemaPush({ force: true, schema: schema(header + left), filters });
    return [unexecutable, await pull(header)];
  });
  engine.free();
});
