#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# NBD over TLS, as libnbd, qemu and openssl speak it: off loopback nothing is served without it, or to clients whose
# certificate another authority has signed.
. "$(dirname "$0")/lib.sh"
need_root
need_tools openssl nbdinfo nbdcopy qemu-img qemu-io python3

logged()
{
	grep -qE -- "$1" "$T/a/var/log/holdfast/$V.log"
}

# authority_make DIR: a CA, a server's certificate for 10.77.0.1, a client's, in the files that qemu and libnbd look for
authority_make()
{
	local dir=$1 who
	mkdir -p "$dir"
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/ca-key.pem" -out "$dir/ca-cert.pem" -subj /CN=ca -days 9
	for who in server client; do
		openssl req -newkey rsa:2048 -nodes -keyout "$dir/$who-key.pem" -out "$dir/$who.csr" -subj "/CN=$who"
		openssl x509 -req -in "$dir/$who.csr" -CA "$dir/ca-cert.pem" -CAkey "$dir/ca-key.pem" -CAcreateserial -days 9 \
			-out "$dir/$who-cert.pem" -extfile <(echo "extendedKeyUsage=${who}Auth
subjectAltName=IP:10.77.0.1,IP:127.0.0.1")
	done
}

nodes=(a)
net_up
tls=$T/tls
authority_make "$tls" 2>/dev/null
authority_make "$T/other" 2>/dev/null
refused 1 'nbd: the address "10.77.0.1:10809" is not loopback, and nbd-tls is not set' \
	hf a create $V --size 64M --node a --nbd 10.77.0.1:10809
hf a create $V --size 64M --node a --nbd 10.77.0.1:10809 --nbd 127.0.0.1:10809 --nbd-tls "$tls" --no-loop \
	--memory 160M >/dev/null

# ---- files

chmod 644 "$tls/server-key.pem"
refused 1 'server-key.pem has mode 0644, so others could read it' hf a up $V
chmod 600 "$tls/server-key.pem"
mv "$tls/ca-cert.pem" "$T/away"
refused 1 'ca-cert.pem: No such file' hf a up $V
echo hello >"$tls/ca-cert.pem"
refused 1 'ca-cert.pem holds no certificate of an authority' hf a up $V
mv "$T/away" "$tls/ca-cert.pem"
cp "$tls/server-key.pem" "$T/away"
cp "$T/other/server-key.pem" "$tls/server-key.pem"
refused 1 'server-key.pem is not that of server-cert.pem' hf a up $V
cp "$T/away" "$tls/server-key.pem"
hf a up $V --primary
fact "a key that others can read, or another one, and missing or wrong files are refused at start"

# ---- clients

secured=nbds://10.77.0.1/$V?tls-certificates=$tls
said 'protocol: .*TLS|TLS' on a nbdinfo "$secured"
logged 'nbd client [0-9]+ connected, encrypted, read-write' || fail "the log does not say that it is encrypted"
head -c 33554432 /dev/urandom >"$T/image"
on a nbdcopy "$T/image" "$secured"
on a nbdcopy "$secured" "$T/back"
cmp -n 33554432 "$T/image" "$T/back" || fail "what libnbd wrote is not what it reads"
volume_copy a "$T/back"
cmp -n 33554432 "$T/image" "$T/back" || fail "what libnbd wrote over TLS is not what the unix socket shows"
creds=tls-creds-x509,id=tls0,endpoint=client,dir=$tls
image="driver=nbd,server.type=inet,server.host=10.77.0.1,server.port=10809,export=$V,tls-creds=tls0"
said '^virtual size: 64 MiB' on a qemu-img info --object "$creds" --image-opts "$image"
on a qemu-io --object "$creds" --image-opts "$image" -c "write -P 0x5a 40M 8M" -c flush -c "read -P 0x5a 40M 8M" >"$T/said"
! grep -qi 'fail' "$T/said" || fail "qemu-io: $(cat "$T/said")"
qio a -r -c "read -P 0x5a 40M 8M" || fail "what qemu wrote over TLS: $said_qio"
fact "libnbd and qemu write and read over TLS"

# ---- who is refused

! on a nbdinfo "nbd://10.77.0.1/$V" >"$T/said" 2>&1 || fail "served in the clear, off loopback"
grep -qi tls "$T/said" || fail "it is not told to use TLS: $(cat "$T/said")"
! on a nbdinfo --list nbd://10.77.0.1 >/dev/null 2>&1 || fail "exports are listed in the clear"
# the oldest way to ask for an export, which has no answer but the end of the connection
on a python3 - "$V" <<'PY'
import socket, struct, sys
s = socket.create_connection(("10.77.0.1", 10809), 5)
s.recv(18, socket.MSG_WAITALL)
s.sendall(struct.pack(">I", 1) + b"IHAVEOPT" + struct.pack(">II", 1, len(sys.argv[1])) + sys.argv[1].encode())
assert s.recv(100) == b""
# more behind STARTTLS, as if it had come encrypted
s = socket.create_connection(("10.77.0.1", 10809), 5)
s.recv(18, socket.MSG_WAITALL)
s.sendall(struct.pack(">I", 1) + 2 * (b"IHAVEOPT" + struct.pack(">II", 5, 0)))
try:
    got = s.recv(100)
except ConnectionResetError:
    got = b""
assert got == b"", got
PY
logged 'cut off: it asked for an export without TLS' || fail "the log does not say it"
logged 'cut off: it sent more behind STARTTLS before it was answered' || fail "the log does not say it"
fact "off loopback nothing is served, or listed, in the clear"

cp "$tls/ca-cert.pem" "$T/other/ca-cert.pem"	# it trusts the server, and is of another authority itself
! on a nbdinfo "nbds://10.77.0.1/$V?tls-certificates=$T/other" >/dev/null 2>&1 || fail "a client of another authority"
logged 'a connection from 10.77.0.1:[0-9]+ was refused: its certificate, of client, is refused: ' || fail "the log does not say it"
mkdir "$T/nobody"
cp "$tls/ca-cert.pem" "$T/nobody/"
! on a nbdinfo "nbds://10.77.0.1/$V?tls-certificates=$T/nobody" >/dev/null 2>&1 || fail "a client without a certificate"
logged 'was refused: it has no key to prove who it is' || fail "the log does not say it"
cp "$tls/server-cert.pem" "$T/nobody/client-cert.pem"
cp "$tls/server-key.pem" "$T/nobody/client-key.pem"
! on a nbdinfo "nbds://10.77.0.1/$V?tls-certificates=$T/nobody" >/dev/null 2>&1 || fail "a server's certificate as a client's"
openssl x509 -req -in "$tls/client.csr" -CA "$tls/ca-cert.pem" -CAkey "$tls/ca-key.pem" -days -1 \
	-out "$T/nobody/client-cert.pem" 2>/dev/null
cp "$tls/client-key.pem" "$T/nobody/client-key.pem"
! on a nbdinfo "nbds://10.77.0.1/$V?tls-certificates=$T/nobody" >/dev/null 2>&1 || fail "a certificate of yesterday"
logged 'its certificate, of client, is refused: certificate has expired' || fail "the log does not say that it has expired"
fact "no certificate, another authority's, another purpose's and an expired one are refused"

# s_client does not know NBD's first bytes: a few lines carry them
on a python3 - "$tls" <<'PY'
import socket, ssl, struct, sys
def starttls():
    s = socket.create_connection(("10.77.0.1", 10809), 5)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I", 1) + b"IHAVEOPT" + struct.pack(">II", 5, 0))
    s.recv(20, socket.MSG_WAITALL)
    return s
context = ssl.create_default_context(cafile=f"{sys.argv[1]}/ca-cert.pem")
context.load_cert_chain(f"{sys.argv[1]}/client-cert.pem", f"{sys.argv[1]}/client-key.pem")
context.maximum_version = ssl.TLSVersion.TLSv1_2
try:
    context.wrap_socket(starttls(), server_hostname="10.77.0.1")
    sys.exit("TLS 1.2 was accepted")
except ssl.SSLError:
    pass
garbage = starttls()
garbage.sendall(b"\xff" * 3000)
while garbage.recv(100):
    pass
idle = [starttls() for _ in range(40)]	# more than may be on their way to a proof
PY
on a nbdinfo "$secured" >/dev/null || fail "who says nothing keeps clients out"
fact "TLS 1.2, garbage, and 40 who say nothing: refused, and the next client is served"

# ---- on this machine TLS is offered, and not asked for

on a nbdinfo "nbd://127.0.0.1/$V" >/dev/null || fail "loopback in the clear"
on a nbdinfo "nbds://127.0.0.1/$V?tls-certificates=$tls" >/dev/null || fail "loopback over TLS"
on a nbdcopy "$secured" "$T/back" &
hf a down $V
wait || true
hf a up $V --primary
on a nbdinfo "$secured" >/dev/null
hf a down $V
fact "on loopback both; the daemon stops and starts beside an encrypted client"
