#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nodes that know each other by an authority's certificates: who has one with a peer's name is that peer, and nobody else
# is; a fingerprint in the config counts before any certificate.
. "$(dirname "$0")/lib.sh"
need_root
need_tools openssl qemu-io

logged()
{
	grep -qE -- "$2" "$T/$1/var/log/holdfast/$V.log"
}

key_of()
{
	echo "$T/$1/var/lib/holdfast/$V/identity"
}

# authority_make DIR ALGORITHM...
authority_make()
{
	local dir=$1
	shift
	mkdir -p "$dir"
	openssl req -x509 "$@" -nodes -keyout "$dir/ca.key" -out "$dir/ca.crt" -subj /CN=authority -days 9 2>/dev/null
}

# certify DIR NODE [NAME [DAYS]]: the certificate that the authority in DIR gives to NODE's key, as NAME
certify()
{
	openssl req -new -key "$(key_of "$2").key" -subj "/CN=${3:-$2}" -out "$T/request" 2>/dev/null
	openssl x509 -req -in "$T/request" -CA "$1/ca.crt" -CAkey "$1/ca.key" -CAcreateserial -days "${4:-9}" \
		-out "$(key_of "$2").crt" 2>/dev/null
}

both_encrypted()
{
	is a 'p["connected"] and p["encrypted"]' && is b 'p["connected"] and p["encrypted"]'
}

ca=$T/ca
authority_make "$ca" -newkey rsa:2048
authority_make "$T/other" -newkey ed25519
nodes_create 64M C --no-loop --ca "$ca/ca.crt"
pin a b none
pin b a none
said 'by its certificate' hf a peer $V list
for node in a b; do certify "$ca" $node; done
nodes_up
primary_make a
both_encrypted || fail "the link is not encrypted"
qio a -c "write -P 7 0 16M" -c flush || fail "qemu-io: $said_qio"
wait_until 20 "b has applied all" all_applied a
fact "nodes with certificates of the authority meet without fingerprints"

# refuses_b PATTERN: a says it of b, and has no link to it
refuses_b()
{
	hf b up $V
	wait_until 20 "a says: $1" logged a "$1"
	is a 'not p["connected"]' || fail "a has a link to it"
	hf b down $V
}

hf b down $V
certify "$T/other" b
refuses_b 'its certificate, of b, is refused: '
certify "$ca" b b -1
refuses_b 'its certificate, of b, is refused: certificate has expired'
fact "another authority's certificate, and an expired one, are refused"
certify "$ca" b c
refused 1 'is of node "c", and this node is b' hf b up $V
cp "$(key_of b).crt" "$T/c.crt"
cp "$(key_of b).key" "$T/c.key"
on b timeout 5 openssl s_client -connect "$(address_of a):7701" -tls1_3 -alpn holdfast/1 -cert "$T/c.crt" -key "$T/c.key" \
	</dev/null >"$T/said" 2>&1 || true
wait_until 5 "a tells of the name" logged a 'it calls itself node c\) is the fingerprint of no peer'
fact "a certificate of the authority in another name is refused"

certify "$ca" b
hf a down $V
pin a b "sha256:$(printf '0%.0s' $(seq 64))"
hf a up $V
refuses_b 'is not the one that the config has as fingerprint of node b'
hf a down $V
pin a b
nodes_up
wait_until 20 "they meet again" both_encrypted
fact "a fingerprint counts before any certificate"
nodes_down
rm "$ca/ca.crt"
refused 1 'ca.crt: No such file' hf a up $V
stores_same
