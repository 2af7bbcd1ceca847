#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""middle.py LISTEN_IP LISTEN_PORT TO_IP TO_PORT SERVER CLIENT GOT: a man in the middle of an encrypted link.

He is the server of who dials, with SERVER.crt and SERVER.key, and a client of who is dialed, with CLIENT.crt and .key;
what either says inside goes to the file GOT."""
import socket
import ssl
import sys
import threading


def context(purpose, name):
    made = ssl.SSLContext(purpose)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_alpn_protocols(["holdfast/1"])
    made.load_cert_chain(f"{name}.crt", f"{name}.key")
    return made


def hear(stream, got):
    try:
        while data := stream.recv(1 << 16):
            got.write(data)
            got.flush()
    except OSError:
        pass


def main():
    listen_ip, listen_port, to_ip, to_port, server, client, path = sys.argv[1:]
    inside, outside = context(ssl.PROTOCOL_TLS_SERVER, server), context(ssl.PROTOCOL_TLS_CLIENT, client)
    listening = socket.create_server((listen_ip, int(listen_port)))
    got = open(path, "wb")
    while True:
        dialer, _ = listening.accept()
        for wrap, plain in (outside.wrap_socket, None), (lambda s: inside.wrap_socket(s, server_side=True), dialer):
            try:
                stream = wrap(plain or socket.create_connection((to_ip, int(to_port)), 5))
                threading.Thread(target=hear, args=(stream, got), daemon=True).start()
            except OSError:
                pass


main()
