"""A service under load, on a real engine: many workspaces, many clients, followers of logs, one that reads slowly, one that
vanishes, and a service that is killed meanwhile.

`cargo xtask load` runs it: WHARF names the program, IMAGE an image with a shell. It prints a table, and ends with 1 when something
was lost, stuck or left. Everything is made below a folder of its own, and removed.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHARF = os.path.abspath(os.environ["WHARF"])
IMAGE = os.environ.get("IMAGE", "wharf-base:local")
WORKSPACES = int(os.environ.get("WORKSPACES", "100"))
CLIENTS = int(os.environ.get("CLIENTS", "200"))
FOLLOWERS = int(os.environ.get("FOLLOWERS", "50"))
SECONDS = float(os.environ.get("SECONDS", "30"))
COUNTS = "n=0; trap exit TERM; while :; do n=$((n+1)); echo line $n; sleep 0.5; done"
FLOODS = "trap exit TERM; while :; do head -c 65536 /dev/zero | tr '\\0' x; echo; done"
wrong = []


class Service:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="wharf-load-"))
        (self.folder / "state").mkdir()
        self.socket = str(self.folder / "state/wharf.sock")
        # Never the state of whoever runs this.
        self.env = {**os.environ, "WHARF_STATE_DIR": str(self.folder / "state"), "WHARF_CONFIG": str(self.folder / "wharf.toml")}
        for name in ("WHARF_SERVER", "WHARF_TOKEN"):
            self.env.pop(name, None)
        (self.folder / "wharf.toml").write_text(
            f'[workspace]\nimage = "{IMAGE}"\nmemory = "64MiB"\ncommand = ["sh", "-c", {json.dumps(COUNTS)}]\n[metrics]\ninterval = "10s"\n')
        self.process = None
        self.log = open(self.folder / "serve.log", "a")

    def start(self):
        self.process = subprocess.Popen([WHARF, "serve"], env=self.env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        begun = time.monotonic()
        ready = self.process.stdout.readline()
        assert "is ready" in ready, f"{ready!r} {(self.folder / 'serve.log').read_text()}"
        return time.monotonic() - begun

    def status(self, name):
        """A value of the kernel about the process, in KiB or as a count."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self, *args, code=0):
        done = subprocess.run([WHARF, *args], env=self.env, capture_output=True, text=True, timeout=300)
        if code is not None and done.returncode != code:
            raise RuntimeError(f"{args}: {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout


async def ask(service, method, path, body=None, headers=()):
    """One request on a connection of its own: status, head, body."""
    reader, writer = await asyncio.open_unix_connection(service.socket, limit=1 << 24)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close", f"content-length: {len(payload)}", *headers]
        if body is not None:
            lines.append("content-type: application/json")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        await writer.drain()
        answer = await reader.read(-1)
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, rest


async def patient(service, method, path, body=None, headers=()):
    """The same, again when the service is busy."""
    for _ in range(600):
        status, head, rest = await ask(service, method, path, body, headers)
        if status != 503:
            return status, rest
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{method} {path}: always busy")


async def make(service, count):
    lanes, times = asyncio.Semaphore(4), []

    async def one(index):
        folder = service.folder / f"w{index}"
        folder.mkdir()
        async with lanes:
            begun = time.monotonic()
            status, rest = await patient(service, "POST", "/v1/workspaces", {"project": str(folder), "labels": {"load": "yes"}}, [f"idempotency-key: w{index}"])
            times.append(time.monotonic() - begun)
            if status != 200:
                wrong.append(f"w{index} was not made: {rest[:300]!r}")

    begun = time.monotonic()
    await asyncio.gather(*(one(index) for index in range(count)))
    return time.monotonic() - begun, times


async def client(service, index, until, times, statuses):
    paths = [f"/v1/workspaces/w{index % WORKSPACES}", "/v1/workspaces?limit=20", "/v1/decisions?limit=20", f"/v1/workspaces/w{index % WORKSPACES}/why", "/v1/stats"]
    turn = 0
    while time.monotonic() < until:
        path = paths[turn % len(paths)]
        turn += 1
        begun = time.monotonic()
        try:
            status, _, rest = await ask(service, "GET", path)
        except (OSError, IndexError, ValueError):
            # The service is killed in between.
            statuses["away"] = statuses.get("away", 0) + 1
            await asyncio.sleep(0.2)
            continue
        statuses[status] = statuses.get(status, 0) + 1
        if status == 200:
            times.append(time.monotonic() - begun)
            json.loads(rest)
        elif status == 503:
            await asyncio.sleep(0.1)
        else:
            wrong.append(f"{path}: {status} {rest[:200]!r}")


class Follower:
    """Follows a log, comes again when the stream ends, and notes every line."""

    def __init__(self, index):
        self.name, self.lines, self.last, self.again = f"w{index}", [], None, 0

    async def run(self, service, stop):
        while not stop.is_set():
            try:
                await self.follow(service, stop)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                pass
            if not stop.is_set():
                self.again += 1
                await asyncio.sleep(0.3)

    async def follow(self, service, stop):
        reader, writer = await asyncio.open_unix_connection(service.socket, limit=1 << 22)
        try:
            head = f"GET /v1/workspaces/{self.name}/logs?follow=true HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n"
            writer.write((head + (f"last-event-id: {self.last}\r\n" if self.last else "") + "\r\n").encode())
            await writer.drain()
            if b" 200 " not in await reader.readline():
                return
            event = {}
            while not stop.is_set():
                line = await asyncio.wait_for(reader.readline(), 40)
                if not line:
                    return
                line = line.decode().rstrip("\r\n")
                if line.startswith("id: "):
                    event["id"] = line[4:]
                elif line.startswith("event: "):
                    event["event"] = line[7:]
                elif line.startswith("data: "):
                    event["data"] = line[6:]
                elif line == "" and event:
                    self.last = event.get("id", self.last)
                    if "data" in event and "event" not in event:
                        number = re.fullmatch(r"line (\d+)", json.loads(event["data"])["message"])
                        self.lines.append(int(number[1]))
                    event = {}
        finally:
            writer.close()


async def slow(service, name, stop):
    """Asks for a flood and takes a kilobyte a second of it."""
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_unix_connection(service.socket, limit=4096)
            writer.write(f"GET /v1/workspaces/{name}/logs?follow=true HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".encode())
            while not stop.is_set():
                if not await asyncio.wait_for(reader.read(1024), 60):
                    break
                await asyncio.sleep(1)
        except (OSError, asyncio.TimeoutError):
            await asyncio.sleep(1)


async def vanishing(service, stop):
    """Begins commands and goes away; nothing of them may stay."""
    count = 0
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_unix_connection(service.socket)
            body = json.dumps({"command": ["sleep", "1000"], "timeout": "900s"})
            writer.write(f"POST /v1/workspaces/w{count % WORKSPACES}/exec HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
            await asyncio.sleep(0.5)
            writer.close()
            count += 1
        except OSError:
            await asyncio.sleep(0.3)
    return count


def share(times, part):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * part))] * 1000 if times else float("nan")


async def main():
    service = Service()
    rows = []
    row = lambda what, value: (rows.append((what, value)), print(f"{what}: {value}", flush=True))
    try:
        row("ready after", f"{service.start() * 1000:.0f} ms")
        row("memory at rest", f"{service.status('VmRSS') / 1024:.1f} MiB")
        took, times = await make(service, WORKSPACES)
        row(f"{WORKSPACES} workspaces made over the API, 4 at a time", f"{took:.1f} s, each {share(times, .5):.0f} ms (median)")
        flood = service.folder / "flood"
        flood.mkdir()
        await patient(service, "POST", "/v1/workspaces", {"project": str(flood), "command": ["sh", "-c", FLOODS], "labels": {"load": "yes"}})
        await asyncio.sleep(12)
        before = service.cpu()
        await asyncio.sleep(10)
        row(f"memory with {WORKSPACES + 1} workspaces and the collector", f"{service.status('VmRSS') / 1024:.1f} MiB")
        row("processor time of that, at rest", f"{(service.cpu() - before) * 100:.1f} ms a second")

        stop = asyncio.Event()
        followers = [Follower(index) for index in range(min(FOLLOWERS, WORKSPACES))]
        others = [asyncio.create_task(follower.run(service, stop)) for follower in followers]
        others.append(asyncio.create_task(slow(service, "flood", stop)))
        enough = asyncio.Event()
        gone = asyncio.create_task(vanishing(service, enough))
        await asyncio.sleep(3)
        row(f"memory with {len(followers)} followers and a slow reader", f"{service.status('VmRSS') / 1024:.1f} MiB")
        times, statuses, until = [], {}, time.monotonic() + SECONDS
        await asyncio.gather(*(client(service, index, until, times, statuses) for index in range(CLIENTS)))
        row(f"{CLIENTS} clients for {SECONDS:.0f} s beside them", f"{len(times) / SECONDS:.0f} answers a second; {share(times, .5):.0f}, {share(times, .95):.0f} and {share(times, .99):.0f} ms (median, 95 %, 99 %)")
        row("statuses", ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items(), key=str)))
        row("memory then; open files", f"{service.status('VmRSS') / 1024:.1f} MiB (at most {service.status('VmHWM') / 1024:.1f}); {len(os.listdir(f'/proc/{service.process.pid}/fd'))}")

        enough.set()
        row("commands whose client vanished meanwhile", await gone)
        # They are gone with their clients.
        for _ in range(60):
            left = [line for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines() if line.strip() == "sleep 1000"]
            if not left:
                break
            await asyncio.sleep(0.5)
        row("commands left of them", len(left))
        if left:
            wrong.append(f"{len(left)} commands run on whose clients are gone")

        # Killed while clients ask and followers read.
        times, statuses, until = [], {}, time.monotonic() + 12
        asking = asyncio.gather(*(client(service, index, until, times, statuses) for index in range(CLIENTS // 4)))
        await asyncio.sleep(2)
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        await asyncio.sleep(1)
        row("ready again after kill -9", f"{service.start() * 1000:.0f} ms")
        await asking
        row("statuses around it", ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items(), key=str)))
        await asyncio.sleep(4)
        stop.set()
        await asyncio.gather(*others, return_exceptions=True)
        lost = 0
        for follower in followers:
            expected = list(range(1, len(follower.lines) + 1))
            if follower.lines != expected or not follower.lines:
                lost += 1
                wrong.append(f"{follower.name}: the lines have gaps or come twice: {follower.lines[:5]}..{follower.lines[-5:]}, {len(follower.lines)}")
        row("lines that were followed", f"{sum(len(follower.lines) for follower in followers)}, resumed {sum(follower.again for follower in followers)} times, {lost} followers with a gap")

        # Whatever was decided is recorded, and the chain is whole.
        verified = service.run("audit", "verify", code=None)
        row("audit verify", verified.strip().splitlines()[0] if verified.strip() else "nothing")
        if re.search(r"changed|gone|not written|damag", verified):
            wrong.append(f"the records are damaged: {verified}")
        for index in range(0, WORKSPACES, 7):
            records = json.loads(service.run("--json", "why", f"w{index}"))["records"]
            if not records or any(record["number"] is None for record in records):
                wrong.append(f"w{index} has lost decisions: {records}")
        again = json.loads((await patient(service, "POST", "/v1/workspaces", {"project": str(service.folder / "w0"), "labels": {"load": "yes"}}, ["idempotency-key: w0"]))[1])
        if again["name"] != "w0":
            wrong.append(f"the key of w0 gave {again}")
        begun = time.monotonic()
        service.run("stop", "--all", "--timeout", "1s")
        row("all stopped", f"{time.monotonic() - begun:.1f} s")
    finally:
        if service.process and service.process.poll() is None:
            service.process.terminate()
            service.process.wait(60)
        service.run("rm", "--all", "--force", code=None)
        left = service.run("ls", "--quiet", code=None)
        if left.strip():
            wrong.append(f"left: {left}")
        if wrong:
            print((service.folder / "serve.log").read_text()[-3000:], file=sys.stderr)
        shutil.rmtree(service.folder)
    print("\n| what | measured |\n| --- | --- |")
    for what, value in rows:
        print(f"| {what} | {value} |")
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} things went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    # Whoever ends this at its time limit wants its service and workspaces gone, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(asyncio.run(main()))
