// drizzle: pull and push of drizzle-kit, migrations with guarded definitions, queries by drizzle-orm over node-postgres.
'use strict';
const { execFileSync } = require('node:child_process');
const { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');
const { Pool } = require('pg');
const { and, asc, count, desc, eq, gt, inArray, like, max, relations, sql } = require('drizzle-orm');
const { drizzle } = require('drizzle-orm/node-postgres');
const { migrate } = require('drizzle-orm/node-postgres/migrator');
const { alias, boolean, date, integer, jsonb, numeric, pgEnum, pgTable, serial, text, uuid, varchar } = require('drizzle-orm/pg-core');
const { versions, step, expect, main } = require('./steps');

const customers = pgTable('customers', {
  id: integer().primaryKey().generatedByDefaultAsIdentity(),
  name: text().notNull(),
  email: varchar({ length: 100 }).notNull().unique(),
  card: text(),
  birth: date(),
  credit: numeric({ precision: 12, scale: 2 }).notNull().default('0'),
  active: boolean().notNull().default(true),
});
const orders = pgTable('orders', {
  id: serial().primaryKey(),
  customerId: integer('customer_id').notNull().references(() => customers.id),
  status: varchar({ length: 10 }).notNull().default('new'),
  note: text(),
});
const mood = pgEnum('dz_mood', ['calm', 'tense']);
const notes = pgTable('dz_notes', {
  id: uuid().primaryKey().defaultRandom(),
  mood: mood().default('calm'),
  body: text().notNull(),
  tags: text().array().notNull().default(sql`'{}'`),
  extra: jsonb(),
  customerId: integer('customer_id').references(() => customers.id),
});
const schema = {
  customers, orders, notes,
  customerRelations: relations(customers, ({ many }) => ({ orders: many(orders) })),
  orderRelations: relations(orders, ({ one }) => ({ customer: one(customers, { fields: [orders.customerId], references: [customers.id] }) })),
};

// As its generator writes them, and wrote them once: guarded.
const MIGRATION = `DO $$ BEGIN
 CREATE TYPE "dz_mood" AS ENUM('calm', 'tense');
EXCEPTION
 WHEN duplicate_object THEN null;
END $$;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "dz_notes" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"mood" "dz_mood" DEFAULT 'calm',
	"body" text NOT NULL,
	"tags" text[] DEFAULT '{}' NOT NULL,
	"extra" jsonb,
	"customer_id" integer
);
--> statement-breakpoint
DO $$ BEGIN
 ALTER TABLE "dz_notes" ADD CONSTRAINT "dz_notes_customer_id_customers_id_fk" FOREIGN KEY ("customer_id") REFERENCES "public"."customers"("id") ON DELETE no action ON UPDATE no action;
EXCEPTION
 WHEN duplicate_object THEN null;
END $$;
--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "dz_notes_body" ON "dz_notes" USING btree ("body");`;

main(async () => {
  versions('drizzle-orm', 'drizzle-kit', 'pg');
  const folder = mkdtempSync(path.join(tmpdir(), 'drizzle-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const packages = path.resolve(path.dirname(require.resolve('pg/package.json')), '..');
  symlinkSync(packages, path.join(folder, 'node_modules'));
  const kit = (command, out) => {
    const { PGUSER, PGPASSWORD, PGHOST, PGPORT, PGDATABASE } = process.env;
    const url = `postgres://${PGUSER}:${PGPASSWORD}@${PGHOST}:${PGPORT}/${PGDATABASE}?sslmode=disable`;
    writeFileSync(path.join(folder, 'drizzle.config.js'), `module.exports = ${JSON.stringify({ dialect: 'postgresql', schema: './pulled/schema.ts', out, dbCredentials: { url } })};\n`);
    execFileSync(process.execPath, [path.join(packages, 'drizzle-kit', 'bin.cjs'), ...command], { cwd: folder, stdio: 'pipe' });
  };
  // It lists what it finds in the order of the catalogs.
  const pulled = (out) => {
    kit(['pull'], out);
    const [imports, ...definitions] = readFileSync(path.join(folder, out, 'schema.ts'), 'utf8').split('export ');
    return [imports.match(/\w+/g).sort(), definitions.map((definition) => definition.trim()).sort()];
  };
  await step('introspect by pull', () => pulled('pulled'));

  const pool = new Pool({ max: 2, application_name: 'orders' });
  const db = drizzle({ client: pool, schema });
  const migrations = path.join(folder, 'migrations');
  mkdirSync(path.join(migrations, 'meta'), { recursive: true });
  writeFileSync(path.join(migrations, '0000_first.sql'), MIGRATION);
  writeFileSync(path.join(migrations, 'meta', '_journal.json'), JSON.stringify({ version: '7', dialect: 'postgresql', entries: [{ idx: 0, version: '7', when: 1, tag: '0000_first', breakpoints: true }] }));
  const migrated = () => migrate(db, { migrationsFolder: migrations, migrationsTable: 'dz_migrations', migrationsSchema: 'public' });
  await step('schema migrate', async () => { await migrated(); return (await db.execute(sql`SELECT count(*) FROM dz_migrations`)).rows; });
  await step('schema migrate again', async () => { await migrated(); return (await db.execute(sql`SELECT count(*) FROM dz_migrations`)).rows; });
  await step('schema by hand once more', async () => {
    for (const part of MIGRATION.split('--> statement-breakpoint')) await db.execute(sql.raw(part));
    return 'as it was';
  });
  await step('introspect what was made', () => pulled('again'));
  await step('connect', async () => (await db.execute(sql`SHOW application_name`)).rows);

  await step('read all', () => db.select().from(customers).orderBy(asc(customers.id)));
  await step('read relations', () => db.query.customers.findMany({ with: { orders: { orderBy: asc(orders.id) } }, orderBy: asc(customers.id) }));
  await step('read one relation', () => db.query.orders.findFirst({ with: { customer: { columns: { email: true } } }, where: eq(orders.id, 3) }));
  await step('read by a mask', () => db.select({ id: customers.id }).from(customers).where(eq(customers.email, 'm***@example.org')));
  await step('read any of', () => db.select({ card: customers.card }).from(customers).where(and(inArray(customers.id, [1, 3]), like(customers.card, '%000%'))).orderBy(customers.id));
  await step('read join', () => db.select().from(orders).leftJoin(customers, eq(orders.customerId, customers.id)).orderBy(desc(orders.id)).limit(1));
  await step('read self join', () => {
    const other = alias(customers, 'other');
    return db.select({ one: customers.id, two: other.id }).from(customers).innerJoin(other, and(eq(other.birth, customers.birth), gt(other.id, customers.id)));
  });
  await step('read group', () => db.select({ status: orders.status, count: count(), note: max(orders.note) }).from(orders).groupBy(orders.status).orderBy(orders.status));
  await step('read with', () => {
    const active = db.$with('active').as(db.select().from(customers).where(customers.active));
    return db.with(active).select({ count: count() }).from(active);
  });
  await step('write insert', () => db.insert(customers).values({ name: 'Dan', email: 'q***@example.com', card: '************1234', birth: '1990-01-01', credit: '2000' }).returning());
  await step('write update', () => db.update(customers).set({ name: 'Ada L', card: '**********0001' }).where(eq(customers.id, 1)).returning({ name: customers.name, card: customers.card }));
  await step('write upsert', async () => {
    const id = '00000000-0000-0000-0000-00000000000a';
    for (const body of ['old', 'new']) await db.insert(notes).values({ id, body, mood: 'tense', tags: ['x', 'y "z"'], extra: { a: [1] }, customerId: 1 }).onConflictDoUpdate({ target: notes.id, set: { body } });
    return db.select().from(notes);
  });
  await step('batch insert', async () => (await db.insert(orders).values(Array.from({ length: 20 }, () => ({ customerId: 3, note: 'batch' }))).returning()).length);
  await step('write delete', async () => (await db.delete(orders).where(eq(orders.note, 'batch'))).rowCount);
  await step('prepared', async () => {
    const one = db.select({ name: customers.name, email: customers.email }).from(customers).where(eq(customers.id, sql.placeholder('id'))).prepare('one_customer');
    return [await one.execute({ id: 1 }), await one.execute({ id: 2 })];
  });
  await step('transaction commit', () => db.transaction(async (tx) => {
    await tx.update(orders).set({ status: 'sent' }).where(eq(orders.id, 1));
    return tx.select().from(orders).where(eq(orders.id, 1)).for('update');
  }, { isolationLevel: 'serializable' }));
  await expect('transaction rollback', () => db.transaction(async (tx) => {
    await tx.delete(orders).where(gt(orders.id, 3));
    await tx.execute(sql`SELECT 1 / 0`);
  }));
  await step('transaction savepoint', () => db.transaction(async (tx) => {
    const code = await tx.transaction((inner) => inner.insert(orders).values({ customerId: 99 })).catch((error) => error.cause.code);
    return [code, await tx.$count(orders)];
  }));
  await expect('error unique', () => db.execute(sql`INSERT INTO products (sku, title, price) VALUES ('H-1', 'again', 1)`));
  await expect('error foreign key', () => db.insert(notes).values({ body: 'x', customerId: 99 }));
  await expect('error hidden column', () => db.execute(sql`SELECT ssn FROM customers`));
  await step('read at the end', () => db.select().from(customers).orderBy(customers.id));
  await step('schema drop', async () => (await db.execute(sql`DROP TABLE dz_notes, dz_migrations; DROP TYPE dz_mood`)).length);
  await pool.end();
});
