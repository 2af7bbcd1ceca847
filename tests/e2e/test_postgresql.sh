#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL with its data in the directory, mode C: the daemon dies under load, the server is started on the other node, and
# every transaction that a client was told of is there; checksums and indexes are whole.
#	PGBENCH_SECONDS=120 PGBENCH_SCALE=20 ROUNDS=5 tests/e2e/test_postgresql.sh	for longer
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools runuser psql
pg=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$pg/initdb" ] && id postgres >/dev/null 2>&1 || skip "there is no PostgreSQL server"

seconds=${PGBENCH_SECONDS:-3}
scale=${PGBENCH_SCALE:-1}
at_a=$T/on-a
at_b=$T/on-b
sockets=$T/sockets

# as COMMAND...: of PostgreSQL's, as its user.
as()
{
	local program=$1
	shift
	runuser -u postgres -- env LC_ALL=C "$pg/$program" "$@"
}

# server_start NODE: on that node's directory.
server_start()
{
	local data=$T/on-$1/data
	as pg_ctl -D "$data" -s -w -t 60 -l "$sockets/log" \
		-o "-k $sockets -c listen_addresses= -c shared_buffers=32MB -c max_wal_size=64MB -c checkpoint_timeout=30s" start ||
		fail "PostgreSQL does not start on $1: $(tail -n 20 "$sockets/log")"
	server=$(head -n 1 "$data/postmaster.pid")
	jobs_started+=("$server")
}

server_stop()
{
	as pg_ctl -D "$T/on-$1/data" -s -w -m fast stop
}

# The server's own processes, which hang or fail on a directory that has died.
server_kill()
{
	local children
	children=$(ps -o pid= --ppid "$server" || true)
	# shellcheck disable=SC2086
	kill -KILL "$server" $children 2>/dev/null || true
	for pid in "$server" $children; do wait_until 20 "PostgreSQL's $pid is gone" process_gone "$pid"; done
	rm -f "$sockets"/.s.*
}

query()
{
	as psql -h "$sockets" -qAtX postgres -c "$1"
}

# client N: what it was told is committed goes into a file of its own.
client()
{
	local n=0
	while [ "$(query "insert into told values ($1, $n, repeat(md5('$n'), 20)) returning n")" = $n ]; do
		echo $n >>"$T/told-$1"
		n=$((n + 1))
	done 2>/dev/null
}

# whole NODE: checksums of all pages, and indexes against their tables.
whole()
{
	as pg_amcheck -h "$sockets" --all --install-missing --heapallindexed --rootdescend >"$T/said" 2>&1 ||
		fail "pg_amcheck on $1: $(head "$T/said")"
	server_stop "$1"
	as pg_checksums -c -D "$T/on-$1/data" >"$T/said" 2>&1 || fail "pg_checksums on $1: $(tail -n 3 "$T/said")"
	grep -q "Bad checksums: *0" "$T/said" || fail "bad checksums on $1: $(cat "$T/said")"
}

told_is_there()
{
	local n file
	for file in "$T"/told-*; do
		n=$(query "select count(*) from told where client = ${file##*-} and n < $(wc -l <"$file")")
		[ "$n" = "$(wc -l <"$file")" ] || fail "client ${file##*-} was told of $(wc -l <"$file") commits; $n are there"
	done
	[ "$(query "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
		and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)")" = t ] ||
		fail "balances do not add up"
}

# round FROM TO: load on FROM, its daemon dies, TO takes over.
round()
{
	local from=$1 to=$2 n
	rm -f "$T"/told-*
	query "truncate told"
	for n in 1 2; do background client $n; done
	background as pgbench -h "$sockets" -n -c 4 -T $((seconds + 60)) postgres >"$T/pgbench" 2>&1
	sleep "$seconds"
	daemon_kill "$from"
	server_kill
	hf "$to" failover $V --force >/dev/null
	wait_until 20 "$to is writable" touch "$T/on-$to/data"
	rm "$T/on-$to/data/postmaster.pid"
	server_start "$to"
	told_is_there
	fact "$from died after $seconds s of load: $(cat "$T"/told-* | wc -l) commits that clients were told of, and" \
		"$(query 'select count(*) from pgbench_history') of pgbench are on $to, balances add up"
	hf "$from" up $V
	hf "$from" mount $V "$T/on-$from"
	wait_online "$to" 60
}

nodes_create 1G C --fs
for node in a b; do node_set $node peer-timeout 1s; done
nodes_up
hf b mount $V "$at_b"
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" mkdir "$at_a/data"
chown postgres "$at_a/data"
chmod 700 "$at_a/data"
chmod 755 "$T" "$at_a"
install -d -o postgres "$sockets"
cd /

as initdb --data-checksums --auth=trust -D "$at_a/data" >"$T/said" 2>&1 || fail "initdb: $(tail "$T/said")"
server_start a
as pgbench -h "$sockets" -i -q -s "$scale" postgres >"$T/said" 2>&1 || fail "pgbench -i: $(tail "$T/said")"
query "create table told (client int, n int, text text, primary key (client, n))"
fact "initdb and pgbench -i in the directory"

node=a
for _ in $(seq "${ROUNDS:-1}"); do
	round $node "$(other $node)"
	node=$(other $node)
done
whole "$node"
fact "pg_amcheck and pg_checksums on $node: whole"

back=$(other "$node")
hf "$node" switchover $V "$back"
wait_until 20 "$back is writable" touch "$T/on-$back/data"
server_start "$back"
told_is_there
whole "$back"
fact "a switchover back: the same on $back"
