#!/bin/sh
# Serves the database in PGDATA; makes it first unless it is there, by the variables and with the scripts that the image on public
# registries takes: POSTGRES_PASSWORD, POSTGRES_DB, /docker-entrypoint-initdb.d/*.sql.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    echo "${POSTGRES_PASSWORD:?}" >"$PGDATA.password"
    initdb --username=postgres --auth-local=trust --auth-host=scram-sha-256 --pwfile="$PGDATA.password" --encoding=UTF8 --locale=C.UTF-8
    rm "$PGDATA.password"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    # Where nobody else reaches it, until all is there.
    pg_ctl -w -o "-c listen_addresses='' -k '$PGDATA'" start
    database=${POSTGRES_DB:-postgres}
    [ "$database" = postgres ] || createdb -h "$PGDATA" -U postgres "$database"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -e "$script" ] || psql -h "$PGDATA" -U postgres -v ON_ERROR_STOP=1 -q -f "$script" "$database"
    done
    pg_ctl -w -m fast stop
fi
exec postgres -c listen_addresses='*' -k /tmp "$@"
