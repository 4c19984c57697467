"""A forked child that takes inputs under bounds, and what it tells its parent."""

import json
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from core.errors import RecurraError
from core.text import shown
from tests.fuzz.reader import Reader, drawn, has_nan

SECONDS, MEGABYTES = 2.0, 500
"""CPU and memory that one input may cost."""
TELLS = 0.5
"""Seconds between two words of a child to its parent."""
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where inputs are written: no disk has to wait for them."""
ROOM = 3 << 30
"""Address space of a child beyond what it has: the bound below memory for everybody."""


class TooLong(BaseException):
    """An input that is over its seconds; no handler of a reader may keep it."""


@dataclass
class Told:
    """What came of some inputs."""

    inputs: int = 0
    accepted: int = 0
    cpu: float = 0.0
    slowest: float = 0.0
    slowest_number: int = 0
    findings: list[tuple[int, str]] = field(default_factory=list)
    """(number of the input, what went wrong and where)."""
    largest_mb: int = 0

    def add(self, other: "Told") -> None:
        """Both together."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.cpu += other.cpu
        if other.slowest > self.slowest:
            self.slowest, self.slowest_number = other.slowest, other.slowest_number
        self.findings += other.findings
        self.largest_mb = max(self.largest_mb, other.largest_mb)


def place_of(error: BaseException) -> str:
    """Kind of an error and the last line of ours that it passed."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and "/tests/fuzz/worker" not in frame.filename
        and "/lib/python" not in frame.filename
    ]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}: {shown(error, 120)}"


def too_long(number: int, frame: FrameType | None) -> None:
    """The handler of SIGPROF while an input is read."""
    raise TooLong


def tried(reader: Reader, data: bytes, path: str) -> tuple[bool, str | None]:
    """Whether the reader took an input, and what is wrong with how it answered."""
    before = signal.signal(signal.SIGPROF, too_long)
    try:
        return answered(reader, data, path)
    finally:
        signal.signal(signal.SIGPROF, before)


def answered(reader: Reader, data: bytes, path: str) -> tuple[bool, str | None]:
    """The same where SIGPROF is handled already."""
    with open(path, "wb", buffering=0) as file:
        file.write(data)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        found = reader.read(path)
    except RecurraError as error:
        str(error)  # the handler of errors shortens it and shows it as text
        return False, None
    except TooLong:
        return False, f"more than {SECONDS:g} CPU s"
    except MemoryError as error:
        return False, place_of(error)
    except Exception as error:
        return False, place_of(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return True, "a result with NaN" if has_nan(found) else None


class Child:
    """A forked process that takes inputs from a number on until a time, and tells of them as it goes.

    One child goes through as many inputs as it can: a fork costs as much as some hundred of them. A death or
    a loop of native code ends the child, is a finding, and costs what it has not told yet.
    """

    def __init__(self, reader: Reader, seed: int, begin: int, seconds: float, most: int) -> None:
        self.reader, self.next, self.killed = reader, begin, False
        self.progress = mmap.mmap(-1, 8)
        self.progress[:8] = struct.pack("<q", begin)
        self.pipe, theirs = os.pipe()
        self.process = os.fork()
        if not self.process:
            os.close(self.pipe)
            go(reader, seed, range(begin, begin + most), seconds, self.progress, theirs)
        os.close(theirs)
        os.set_blocking(self.pipe, False)
        self.text, self.at, self.since = b"", -1, 0.0

    def told(self) -> tuple[Told, bool]:
        """What has come since the last call, and whether the child is still at work."""
        gone, status = os.waitpid(self.process, os.WNOHANG)
        self.text += received(self.pipe)
        *lines, self.text = self.text.split(b"\n")
        found = Told()
        for line in lines:
            about = json.loads(line)
            about["findings"] = [(number, wrong) for number, wrong in about["findings"]]
            found.add(Told(**about))
        self.next += found.inputs
        number = struct.unpack("<q", self.progress[:8])[0]
        if gone:
            os.close(self.pipe)
            if status:
                wrong = "a loop in native code" if self.killed else f"died of signal {os.WTERMSIG(status)}"
                found.add(Told(inputs=number - self.next + 1, findings=[(number, wrong)]))
                self.next = number + 1
            return found, False
        if number != self.at:
            self.at, self.since = number, cpu_of(self.process)
        elif cpu_of(self.process) - self.since > 5 * SECONDS and not self.killed:
            os.kill(self.process, signal.SIGKILL)
            self.killed = True
        return found, True

    def end(self) -> None:
        """Kill it, whatever it does."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.pipe)


def go(
    reader: Reader, seed: int, numbers: range, seconds: float, progress: mmap.mmap, answer: int
) -> NoReturn:
    """The child."""
    status, end = 0, time.monotonic() + seconds
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGPROF, too_long)
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as folder:
            path = os.path.join(folder, f"input{reader.suffix}")
            told, since, spent = Told(), time.monotonic(), time.process_time()
            reader_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in numbers:
                progress[:8] = struct.pack("<q", number)
                data = drawn(reader, seed, number)
                begin = time.process_time()
                taken, wrong = answered(reader, data, path)
                cost = time.process_time() - begin
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                grown = (peak - reader_peak) >> 10
                if wrong is None and grown > MEGABYTES:
                    wrong = f"{grown} MB"
                reader_peak = max(reader_peak, peak) if grown > MEGABYTES else reader_peak
                told.add(Told(1, int(taken), 0.0, cost, number, [], grown))
                if wrong is not None:
                    told.findings.append((number, wrong))
                now = time.monotonic()
                last = number == numbers[-1] or now > end
                if now > since + TELLS or last or wrong is not None:
                    told.cpu = time.process_time() - spent
                    os.write(answer, json.dumps(asdict(told)).encode() + b"\n")
                    told, since, spent = Told(), now, time.process_time()
                if now > end:
                    break
    except BaseException as error:
        wrong = f"the fuzzer itself: {place_of(error)}"
        number = struct.unpack("<q", progress[:8])[0]
        os.write(answer, json.dumps(asdict(Told(findings=[(number, wrong)]))).encode() + b"\n")
    os._exit(status)


def received(pipe: int) -> bytes:
    """What lies in a pipe."""
    try:
        return os.read(pipe, 1 << 20)
    except BlockingIOError:
        return b""


def cpu_of(process: int) -> float:
    """CPU seconds of a process so far."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
