"""A forked child that takes some hundreds of inputs under bounds, and what it tells its parent."""

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

from core.errors import RecurraError
from core.text import shown
from tests.fuzz.reader import Reader, drawn, has_nan

SECONDS, MEGABYTES = 2.0, 500
"""CPU and memory that one input may cost."""
BATCH = 500
ROOM = 3 << 30
"""Address space of a child beyond what it has: the bound below memory for everybody."""


class TooLong(BaseException):
    """An input that is over its seconds; no handler of a reader may keep it."""


@dataclass
class Told:
    """What came of a batch."""

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


def tried(reader: Reader, data: bytes, path: str) -> tuple[bool, str | None]:
    """Whether the reader took an input, and what is wrong with how it answered."""
    Path(path).write_bytes(data)

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
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
        signal.signal(signal.SIGPROF, before)
    return True, "a result with NaN" if has_nan(found) else None


def batch(reader: Reader, seed: int, numbers: range, progress: mmap.mmap, answer: int) -> None:
    """The child: never returns."""
    told, status = Told(), 0
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            path = os.path.join(folder, f"input{reader.suffix}")
            reader_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in numbers:
                progress[:8] = struct.pack("<q", number)
                data = drawn(reader, seed, number)
                begin = time.process_time()
                taken, wrong = tried(reader, data, path)
                cost = time.process_time() - begin
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                grown = (peak - reader_peak) >> 10
                if wrong is None and grown > MEGABYTES:
                    wrong = f"{grown} MB"
                reader_peak = max(reader_peak, peak) if grown > MEGABYTES else reader_peak
                told.inputs += 1
                told.accepted += taken
                told.cpu += cost
                told.largest_mb = max(told.largest_mb, grown)
                if cost > told.slowest:
                    told.slowest, told.slowest_number = cost, number
                if wrong is not None:
                    told.findings.append((number, wrong))
                    if len(told.findings) > 20:
                        break
    except BaseException as error:
        told.findings.append((struct.unpack("<q", progress[:8])[0], f"the fuzzer itself: {place_of(error)}"))
        status = 1
    os.write(answer, json.dumps(asdict(told)).encode())
    os._exit(status)


def forked(reader: Reader, seed: int, numbers: range) -> Told:
    """A batch in a child; a death or a loop of native code is a finding too."""
    progress = mmap.mmap(-1, 8)
    progress[:8] = struct.pack("<q", numbers.start)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        batch(reader, seed, numbers, progress, theirs)
    os.close(theirs)
    last, since, parts = -1, cpu_of(child), []
    os.set_blocking(ours, False)
    killed = False
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        parts.append(received(ours))
        if gone:
            break
        now = struct.unpack("<q", progress[:8])[0]
        if now != last:
            last, since = now, cpu_of(child)
        elif cpu_of(child) - since > 5 * SECONDS and not killed:
            os.kill(child, signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    parts.append(received(ours))
    os.close(ours)
    text = b"".join(parts)
    if text:
        about = json.loads(text)
        about["findings"] = [(number, wrong) for number, wrong in about["findings"]]
        return Told(**about)
    number = struct.unpack("<q", progress[:8])[0]
    wrong = "a loop in native code" if killed else f"died of signal {os.WTERMSIG(status)}"
    return Told(inputs=number - numbers.start + 1, findings=[(number, wrong)])


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
