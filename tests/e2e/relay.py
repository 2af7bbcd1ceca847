#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""relay.py LISTEN_IP LISTEN_PORT TO_IP TO_PORT CAPTURE: a man in the middle who passes everything on, and keeps it.

Both directions of all connections go to CAPTURE, as they come."""
import socket
import sys
import threading


def pump(source, sink, capture):
    try:
        while data := source.recv(1 << 16):
            capture.write(data)
            capture.flush()
            sink.sendall(data)
    except OSError:
        pass
    for end in source, sink:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    listen_ip, listen_port, to_ip, to_port, path = sys.argv[1:]
    capture = open(path, "ab")
    server = socket.create_server((listen_ip, int(listen_port)))
    while True:
        client, _ = server.accept()
        try:
            upstream = socket.create_connection((to_ip, int(to_port)), 5)
        except OSError:
            client.close()
            continue
        for pair in (client, upstream), (upstream, client):
            threading.Thread(target=pump, args=(*pair, capture), daemon=True).start()


main()
