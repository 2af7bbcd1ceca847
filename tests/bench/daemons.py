# SPDX-License-Identifier: Apache-2.0
"""Daemons that are measured: a node, and a volume on one or two of them. Of scripts/bench."""
import filecmp
import json
import os
import random
import socket
import subprocess
import sys
import time

BUILD = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../build/release"))
HOLDFAST, HOLDFASTD = f"{BUILD}/holdfast", f"{BUILD}/holdfastd"


class Failure(Exception):
    """One sentence for the user."""


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def run(*command):
    """What it prints; its own last line of complaint when it fails."""
    got = subprocess.run(command, capture_output=True, text=True)
    if got.returncode:
        raise Failure(f"{' '.join(command)}\n{got.stderr.strip() or f'ended with status {got.returncode}'}")
    return got.stdout


class Node:
    """One replica and its daemon, which is our child and dies with us."""

    def __init__(self, root, name):
        self.root, self.name, self.process = root, name, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]

    def holdfast(self, *command):
        return run(HOLDFAST, "--root", self.root, *command)

    def create(self, uuid, options, peer=None, mode=None, clear=False):
        link = ["--listen", self.address, "--peer", f"{peer.name}={peer.address},{mode}", "--insecure-loopback",
                "yes" if clear else "no"] if peer else []
        self.holdfast("create", "bench", "--no-loop", "--uuid", uuid, "--node", self.name, *options, *link)

    def pin(self, other):
        """It knows the other one by its key."""
        fingerprint = next(word for word in other.holdfast("identity", "bench").split() if word.startswith("sha256:"))
        self.holdfast("peer", "bench", "fingerprint", other.name, fingerprint)

    def start(self):
        ready, told = os.pipe()
        with open(f"{self.root}/log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", HOLDFASTD, "--foreground", "--root", self.root, "--ready-fd",
                 str(told), "bench"], pass_fds=[told], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        os.close(told)
        with os.fdopen(ready) as line:
            if line.readline() != "ready\n":
                raise Failure(f"node {self.name} does not start:\n{self.log_end()}")

    def log_end(self):
        with open(f"{self.root}/log") as log:
            return "".join(log.readlines()[-5:]).strip()

    def stop(self):
        """Cleanly: afterwards the store has everything."""
        self.process.terminate()
        if self.process.wait(60):
            raise Failure(f"node {self.name} did not stop well:\n{self.log_end()}")
        self.process = None

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def cpu_ticks(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def status(self):
        if self.process.poll() is not None:
            raise Failure(f"node {self.name} has died:\n{self.log_end()}")
        return json.loads(self.holdfast("status", "bench", "--json"))


class Setup:
    """A volume: its primary and, when it is mirrored, its secondary."""

    def __init__(self, name, folder, mode=None, options=("--size", "256M"), clear=False):
        self.name, self.mode, self.options, self.clear = name, mode, options, clear
        self.nodes = [Node(f"{folder}/{name[-1]}{node}", node) for node in ("ab" if mode else "a")]

    def create(self):
        uuid = f"00000000-0000-4000-8000-{random.getrandbits(48):012x}"
        for node in self.nodes:
            peers = [other for other in self.nodes if other is not node]
            node.create(uuid, self.options, *peers, *([self.mode, self.clear] if peers else []))
        if self.mode and not self.clear:
            self.nodes[0].pin(self.nodes[1])
            self.nodes[1].pin(self.nodes[0])

    def start(self):
        for node in self.nodes:
            node.start()
        self.nodes[0].holdfast("promote", "bench", "--wait", "20")

    def settle(self):
        """Waits until the peer has everything: in mode A it may be behind."""
        end = time.monotonic() + 60
        while len(self.nodes) > 1:
            peer = self.nodes[0].status()["peers"][0]
            if peer["connected"] and peer["lag_bytes"] == 0:
                return
            if time.monotonic() > end:
                raise Failure(f"{self.name}: the peer lags by {peer['lag_bytes']} bytes and does not catch up")
            time.sleep(0.02)

    def destaged(self):
        """Waits until every store has everything, so that no later sample pays for this one."""
        self.settle()
        end = time.monotonic() + 60
        for node in self.nodes:
            while node.status()["pages_dirty"]:
                if time.monotonic() > end:
                    raise Failure(f"{self.name}: node {node.name} does not bring its pages to the store")
                time.sleep(0.05)

    def stop(self):
        self.settle()
        for node in self.nodes:
            node.stop()

    def compare(self):
        stores = [f"{node.root}/var/lib/holdfast/bench/store" for node in self.nodes]
        if len(stores) > 1 and not filecmp.cmp(*stores, shallow=False):
            raise Failure(f"WRONG DATA: {self.name}: the replicas differ after a clean stop of both")

    def kill(self):
        for node in self.nodes:
            node.kill()
