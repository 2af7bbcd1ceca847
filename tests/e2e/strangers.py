#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""strangers.py IP PORT IDLE SPEAKERS: a crowd that knocks until it is killed.

IDLE connections are held open in silence, and dialed anew when they are ended; SPEAKERS threads say garbage, halves of
TLS and of HTTP. A line "knocking" when all were there once."""
import os
import selectors
import socket
import sys
import threading
import time

IP, PORT, IDLE, SPEAKERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
SAID = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"HLFN" + bytes(300), b"\x16\x03\x03\x40\x00" + b"\xff" * 20000]


def dial():
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((IP, PORT))
    return s


def speak(number):
    while True:
        try:
            with socket.create_connection((IP, PORT), 2) as s:
                s.sendall(SAID[number % len(SAID)] + os.urandom(number % 7))
                s.settimeout(0.2)
                s.recv(100)
        except OSError:
            pass
        number += 1
        time.sleep(0.02)


def main():
    for number in range(SPEAKERS):
        threading.Thread(target=speak, args=(number,), daemon=True).start()
    ready = selectors.DefaultSelector()
    for _ in range(IDLE):
        ready.register(dial(), selectors.EVENT_READ)
    print("knocking", flush=True)
    while True:
        for key, _ in ready.select(1):
            ready.unregister(key.fileobj)
            key.fileobj.close()
            time.sleep(0.002)
            ready.register(dial(), selectors.EVENT_READ)


main()
