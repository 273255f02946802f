#!/bin/sh
# Makes the database of POSTGRES_PASSWORD in PGDATA unless it is there, with what /init.sql holds, and serves it.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    echo "${POSTGRES_PASSWORD:?}" >/tmp/password
    initdb --username=postgres --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    if [ -e /init.sql ]; then
        # By a socket only, until all is there.
        pg_ctl -w -o "-c listen_addresses='' -k /tmp" start
        psql -h /tmp -U postgres -v ON_ERROR_STOP=1 -f /init.sql postgres
        pg_ctl -w -m fast stop
    fi
fi
exec postgres -c listen_addresses='*' -k /tmp "$@"
