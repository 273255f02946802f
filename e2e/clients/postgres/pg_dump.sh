# pg_dump and pg_restore, of the database and of its parts, in each format; and the tools that maintain tables.
. ./postgres.sh
versions pg_dump

# A dump's text, without its version, time and the random key that newer ones write.
text() {
    grep -vE '^-- (Dumped|Started|Completed)|^\\(un)?restrict |^$|^--$'
}
dump() {
    pg_dump "$@" | text
}
# Where a message's words are not what counts.
quietly() {
    "$@" 2>/dev/null
}
listed() {
    pg_restore --list "$@" | grep -v '^;' | sed 's/^[0-9]*; [0-9]* [0-9]* //'
}
archive() {
    pg_dump -Fc -f "$work/archive" "$@" && listed "$work/archive" && pg_restore -f - "$work/archive" | text
}
in_folder() {
    pg_dump -Fd -j 2 -f "$work/folder" && listed "$work/folder" && pg_restore -f - "$work/folder" | text
}
in_tar() {
    pg_dump -Ft -f "$work/tar" && listed "$work/tar"
}
restored() {
    psql -X -q -c "CREATE TABLE parcels (id int PRIMARY KEY, weight int CHECK (weight > 0), kind category)" -c "INSERT INTO parcels VALUES (1, 2, 'toy'), (2, 3, NULL)" &&
        pg_dump -Fc -t parcels -f "$work/parcels" && psql -X -q -c "DROP TABLE parcels" && pg_restore -d "$PGDATABASE" --no-owner "$work/parcels" &&
        psql -X -A -t -c "TABLE parcels ORDER BY id" && pg_restore -d "$PGDATABASE" --clean --if-exists --no-owner -j 2 "$work/parcels" && psql -X -q -c "DROP TABLE parcels"
}

step "dump" dump
step "dump schema" dump --schema-only --no-owner --no-privileges
step "dump data" dump --data-only
step "dump inserts" dump --inserts --rows-per-insert=2 -t customers
step "dump column inserts" dump --column-inserts --on-conflict-do-nothing -t public.customers
step "dump table" dump -t orders -t order_items
step "dump without table" dump --data-only -T customers -T 'order*'
step "dump without rows" dump --exclude-table-data=customers
step "dump clean" dump --clean --if-exists --create --schema-only
step "dump sections" dump --section=pre-data --section=post-data
step "dump quoted" dump --quote-all-identifiers -t customers
step "dump serializable" dump --serializable-deferrable -t customers
step "dump disabling" dump --data-only --disable-triggers -t orders
step "archive" archive
step "archive folder" in_folder
step "archive tar" in_tar
step "archive restored" restored
step "maintain isready" pg_isready
step "maintain vacuum" vacuumdb -q -t orders -t products
step "maintain analyze" vacuumdb -q --analyze-in-stages -t orders
step "maintain reindex" reindexdb -q -t products
step "maintain reindex all" quietly reindexdb -q
step "maintain cluster table" sh -c "psql -X -q -c 'ALTER TABLE products CLUSTER ON products_pkey' && clusterdb -q -t products"
step "maintain cluster" quietly clusterdb -q
step "error no table" pg_dump -t nosuch
