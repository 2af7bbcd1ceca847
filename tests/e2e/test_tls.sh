#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Links are encrypted and both ends prove who they are: what is written is not to be found on the wire; wrong keys, old
# TLS and plain text are refused, with a sentence, and the daemon goes on; kill, failover and resync are as ever.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io nbdcopy openssl python3

log_of()
{
	echo "$T/$1/var/log/holdfast/$V.log"
}

logged()
{
	grep -qE -- "$2" "$(log_of "$1")"
}

io()
{
	qio "$@" || fail "qemu-io: $said_qio"
}

both_encrypted()
{
	is a 'p["connected"] and p["encrypted"]' && is b 'p["connected"] and p["encrypted"]'
}

secret=GEHEIMSACHE
nodes_create 64M C --no-loop

# ---- identity

said '^fingerprint of node a: [0-9A-Z]{4}(-[0-9A-Z]{4}){3}$' hf a identity $V
key=$T/a/var/lib/holdfast/$V/identity.key
[ "$(stat -c %a "$key")" = 600 ] || fail "the key's mode is $(stat -c %a "$key")"
refused 1 'exists already and is not overwritten' hf a identity $V --create
refused 1 'no fingerprint: sha256: and 64 hex digits' hf a peer $V fingerprint b sha256:12
chmod 644 "$key"
refused 1 'has mode 0644, so others could read it' hf a identity $V
chmod 600 "$key"
fact "each node has a key of its own, that nobody else can read"

# ---- in the clear, on one machine only; also to know that the capture sees what there is to see

# relay_start NODE ADDRESS: there, from its port 7799 to 7701
relay_start()
{
	background on "$1" python3 "$here/relay.py" "$2" 7799 "$2" 7701 "$capture"
	wait_until 10 "the relay listens" on "$1" python3 -c "import socket; socket.create_connection(('$2', 7799)).close()"
}

# config_edit NODE SED_COMMANDS
config_edit()
{
	sed -i "$2" "$T/$1/etc/holdfast/$V.conf"
}

# fingerprints_forget: both; then what `up` says to that
pin a b none
pin b a none
refused 1 'peer b has no fingerprint, so nobody could tell who is there; print it .* holdfast peer photos fingerprint b' \
	hf a up $V
node_set a insecure-loopback yes
refused 1 'peer b has no fingerprint, and 10.77.0.2:7701 is reached from other machines: insecure-loopback is for 127' \
	hf a up $V
config_edit a "s/^address = .*/address = 127.0.0.1:7799/"
refused 1 'peer b has no fingerprint, and 10.77.0.1:7701 is reached from other machines' hf a up $V
fact "without a fingerprint, and with addresses that others reach, no daemon starts"

capture=$T/capture
one_machine=$(declare -f on)
cp "$T/a/etc/holdfast/$V.conf" "$T/conf.a"
cp "$T/b/etc/holdfast/$V.conf" "$T/conf.b"
on()
{
	shift
	nsenter "--net=/run/netns/$net-a" "$@"
}
config_edit a "s/^listen = .*/listen = 127.0.0.1:7702/"
config_edit b "s/^listen = .*/listen = 127.0.0.1:7701/; s/^address = .*/address = 127.0.0.1:7702/"
relay_start a 127.0.0.1
hf a up $V
refused 1 'peer a has no fingerprint' hf b up $V
node_set b insecure-loopback yes
hf b up $V
primary_make a
python3 -c "print('$secret' * 6000, end='')" >"$T/secret"
nbdcopy "$T/secret" "$(uri a)"
wait_online a
is a 'not p["encrypted"]' || fail "a link in the clear is told to be encrypted"
said 'in the clear' hf a status $V
grep -q "$secret" "$capture" || fail "the capture does not even see what is in the clear"
for node in a b; do
	logged $node 'W volume=photos peer=. the link to .* is not encrypted' || fail "a plain link came up without a warning"
done
fact "in the clear the capture finds what was written"

# ---- encrypted

nodes_down
eval "$one_machine"
cp "$T/conf.a" "$T/a/etc/holdfast/$V.conf"
cp "$T/conf.b" "$T/b/etc/holdfast/$V.conf"
nodes_pin
config_edit a "/^insecure-loopback/d; s/^address = .*/address = $(address_of b):7799/"
relay_start b "$(address_of b)"
: >"$capture"
nodes_up
primary_make a
wait_until 10 "both say that the link is encrypted" both_encrypted
said ', encrypted' hf a status $V
nbdcopy "$T/secret" "$(uri a)"
io a -c "write -P 0x5a 8M 4M" -c flush
wait_online a
[ "$(stat -c %s "$capture")" -gt $((4 << 20)) ] || fail "the capture is too small: $(stat -c %s "$capture")"
! grep -q "$secret" "$capture" || fail "what was written is on the wire"
! grep -q HLFN "$capture" || fail "our frames are on the wire"
! grep -qE 'not encrypted' <(tail -n 20 "$(log_of a)" | sed '1,/stopped/d') || fail "it warns of an encrypted link"
fact "encrypted: 4 MiB and a known text passed the relay, and nothing of it can be found"
wait_until 10 "the secondary has applied all" all_applied a
io b -r -c "read -P 0x5a 8M 4M"

# ---- who else comes

daemons=$(pid_of a):$(pid_of b)
to_b=$(address_of b):7701
printf 'HLFN\001\000\000\000in the clear' >"$T/plain"
on a timeout 5 python3 -c "
import socket
s = socket.create_connection(('$(address_of b)', 7701), 5)
s.sendall(open('$T/plain', 'rb').read())
try:
    got = s.recv(100)
except ConnectionResetError:
    got = b''
assert got == b'', got" || fail "a plain client was not sent away"
wait_until 5 "b tells of the plain client" logged b "connection from $(address_of a):[0-9]+ was refused: what it sent is not TLS"
fact "a plain client is refused"

sclient()
{
	on a timeout 5 openssl s_client -connect "$to_b" "$@" </dev/null >"$T/sclient" 2>&1
}
! sclient -tls1_2 || fail "TLS 1.2 was accepted"
wait_until 5 "b tells of the old client" logged b 'refused: it does not speak TLS 1.3'
! sclient -tls1_3 -alpn h2 -groups X25519 -sigalgs ed25519 || fail "another protocol was accepted"
wait_until 5 "b tells of the other protocol" logged b 'refused: it does not speak our protocol'
sclient -tls1_3 -alpn holdfast/1 || true
wait_until 5 "b tells of the client without a key" logged b 'refused: it has no key to prove who it is'
openssl req -x509 -newkey ed25519 -nodes -keyout "$T/other.key" -out "$T/other.crt" -subj /CN=a -days 9 2>/dev/null
sclient -tls1_3 -alpn holdfast/1 -cert "$T/other.crt" -key "$T/other.key" || true
wait_until 5 "b tells of a stranger called a" logged b 'it calls itself node a\) is the fingerprint of no peer'
if command -v gnutls-cli >/dev/null; then
	! on a timeout 5 gnutls-cli --insecure --alpn=holdfast/1 --priority 'NORMAL:-VERS-ALL:+VERS-TLS1.2' -p 7701 \
		"$(address_of b)" </dev/null >"$T/sclient" 2>&1 || fail "TLS 1.2 was accepted from gnutls-cli"
fi
fact "TLS 1.2, another protocol, no key and another key are refused, each with its sentence"

# Who has b's key is b, and no more than that: what it then says is looked at as ever.
identity_b=$T/b/var/lib/holdfast/$V/identity
{
	sleep 1
	head -c 5000 /dev/urandom
	sleep 1
} | on b timeout 5 openssl s_client -quiet -connect "$(address_of a):7701" -tls1_3 -alpn holdfast/1 \
	-cert "$identity_b.crt" -key "$identity_b.key" >"$T/sclient" 2>/dev/null || true
[ "$(head -c 1 "$T/sclient")" = W ] || fail "who has b's key was not let in"
wait_until 5 "a tells of garbage inside a link" logged a 'a connection was refused: wrong magic'
fact "garbage from who has a peer's key ends that connection, and no other"

# A man in the middle who ends the encryption on both sides, with keys of his own in the names of both.
openssl req -x509 -newkey ed25519 -nodes -keyout "$T/b.key" -out "$T/b.crt" -subj /CN=b -days 9 2>/dev/null
config_edit a "s/^address = .*/address = $(address_of b):7798/"
background on b python3 "$here/middle.py" "$(address_of b)" 7798 "$(address_of b)" 7701 "$T/b" "$T/other" "$T/middle"
wait_until 10 "the man in the middle listens" test -e "$T/middle"
hf a down $V
hf b down $V
hf a up $V
wait_until 15 "a tells that it is another key" logged a \
	'no encrypted link to node b at 10.77.0.2:7798: its key .* it calls itself node b\) is not the one'
hf b up $V
wait_until 15 "b tells that it is another key" logged b 'it calls itself node a\) is the fingerprint of no peer'
is a 'not p["connected"]' && is b 'not p["connected"]' || fail "they met through a man in the middle"
[ ! -s "$T/middle" ] || fail "the man in the middle got: $(head -c 100 "$T/middle")"
hf a down $V
config_edit a "s/^address = .*/address = $(address_of b):7799/"
hf a up $V
primary_make a
fact "a man in the middle with certificates in both names is refused by both, and gets no byte"
daemons=$(pid_of a):$(pid_of b)

on a python3 - "$(address_of b)" <<'PY'
import os, socket, sys
idle = []
for _ in range(200):
    s = socket.create_connection((sys.argv[1], 7701), 5)
    s.sendall(b"\x16\x03\x01" + os.urandom(3)[:_ % 4])
    idle.append(s)
PY
[ "$daemons" = "$(pid_of a):$(pid_of b)" ] && both_encrypted || fail "the nodes did not go on"
io a -c "write -P 0x66 20M 1M" -c flush
logged b 'more connections were refused meanwhile' || [ "$(grep -c 'was refused' "$(log_of b)")" -lt 30 ] ||
	fail "strangers fill the log"
fact "200 who begin and say no more do not keep the nodes from their work"

# ---- kill, failover, resync

daemon_kill b
io a -c "write -P 0x77 24M 8M" -c flush
hf b up $V
wait_online a
both_encrypted || fail "after a kill the link is not encrypted"
daemon_kill a
hf b failover $V --force >/dev/null
io b -c "write -P 0x88 40M 8M" -c flush
hf a up $V
wait_online b
both_encrypted || fail "after a failover the link is not encrypted"
wait_until 10 "the old primary has applied all" all_applied b
hf a down $V
rm "$T/a/var/lib/holdfast/$V/store"
said 'node a is up with an empty replica' hf a replace $V
wait_online b 60
wait_until 30 "the new replica is filled" all_applied b
both_encrypted || fail "a resync went in the clear"
io a -r -c "read -P 0x88 40M 8M" -c "read -P 0x77 24M 8M"
nodes_down
stores_same
fact "kill, failover and the resync of a lost replica, all of it encrypted; the stores are the same bytes"

# ---- wrong keys

wrong=sha256:$(printf '0%.0s' $(seq 64))
pin a b "$wrong"
nodes_up
wait_until 15 "a tells that b's key is another" logged a \
	'no encrypted link to node b at .*: its key .* is not the one that the config has as fingerprint of node b'
wait_until 15 "b tells that its key is not taken" logged b "was refused: it does not accept this node's key"
said '! no encrypted link to node b' hf a status $V
is a 'not p["connected"]' || fail "a took a wrong key"
hf a down $V
pin a b
hf b down $V
pin b a "$wrong"
nodes_up
wait_until 15 "a tells that its key is not taken" logged a "no encrypted link .* it does not accept this node's key"
wait_until 15 "b tells whose key it does not know" logged b 'it calls itself node a\) is the fingerprint of no peer'
is b 'not p["connected"]' || fail "b took a wrong key"
fact "a wrong fingerprint is told on both sides, whichever has it"

nodes_down
hf b peer $V fingerprint a none
node_set b insecure-loopback yes
config_edit b "s/^listen = .*/listen = 127.0.0.1:7701/; s/^address = .*/address = 127.0.0.1:7702/"
hf b up $V
on b timeout 5 openssl s_client -connect 127.0.0.1:7701 -tls1_3 -alpn holdfast/1 </dev/null >"$T/sclient" 2>&1 || true
wait_until 15 "b tells that it has no fingerprint" logged b \
	'begins a TLS handshake, and the config here has a fingerprint of no peer'
hf b down $V
cp "$T/conf.b" "$T/b/etc/holdfast/$V.conf"
pin b a
hf b up $V
fact "a fingerprint on one side only: no link, never one in the clear"
hf b down $V
pin a b
nodes_up
wait_until 15 "with both right they meet again" both_encrypted
nodes_down
