# pgbench: each way to fill its tables, each built-in script by each protocol, own scripts with variables and pipelines.
. ./postgres.sh
versions pgbench

# What it counts, without its times.
counted() {
    "$@" 2>&1 | grep -E 'actually processed|failed transactions|aborted|error|ERROR|done' | sed -e 's/ in [0-9.]* s.*//' -e 's/ (elapsed.*//'
}
bench() {
    counted pgbench -n --random-seed=7 -t 20 "$@"
}
total() {
    psql -X -A -t -c "SELECT count(*), sum(abalance) FROM pgbench_accounts" -c "SELECT count(*), sum(delta) FROM pgbench_history" -c "SELECT sum(tbalance) FROM pgbench_tellers"
}

step "init" counted pgbench -i -q -s 1 -I dtgvpf
step "init on the server" counted pgbench -i -q -s 1 -I dtGvp
step "init in parts" counted pgbench -i -q -s 1 --partitions=3 --partition-method=hash --foreign-keys
step "init plain" counted pgbench -i -q -s 1 --unlogged-tables
for mode in simple extended prepared; do
    step "bench tpcb-like $mode" bench -M $mode
    step "bench simple-update $mode" bench -M $mode -N
    step "bench select-only $mode" bench -M $mode -S
    step "bench clients $mode" bench -M $mode -S -c 4 -j 2
    step "bench connect $mode" bench -M $mode -S -C -t 3
    step "bench customers $mode" bench -M $mode -f customers.pgbench
    step "bench write $mode" bench -M $mode -f write.pgbench
    step "bench rate $mode" bench -M $mode -S -R 1000 -L 1000
done
for mode in extended prepared; do
    step "batch $mode" bench -M $mode -f pipeline.pgbench
done
step "bench several results" bench -f aset.pgbench
step "bench several" bench -f customers.pgbench@2 -b select-only@1
step "bench retried" bench --max-tries=3 -b simple-update
step "bench total" total
step "bench vacuum" sh -c "pgbench -v -t 1 2>&1 | grep -E 'processed|ERROR'"
