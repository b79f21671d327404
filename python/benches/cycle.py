#!/usr/bin/env python3
"""A warm cycle of acquire and release from Python and from Rust, in turn, on one store:

    cargo build --release --all-features --example overhead
    python python/benches/cycle.py URL [ROUNDS]

with the wheel of a release build installed. Medians, and their ratio. Also how long the import takes.
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
UNITS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def rust(url):
    """The median in ms, by the example `overhead`: the second time in the row below its head of two lines."""
    output = subprocess.run(
        [ROOT / "target/release/examples/overhead", url], capture_output=True, text=True, check=True
    )
    times = re.findall(r"([\d.]+)(ns|µs|ms|s)\b", output.stdout.splitlines()[2])
    number, unit = times[1]
    return float(number) * UNITS[unit]


def python(url):
    import leaselock

    store = leaselock.open(url, prefix="overhead", check=False)
    lock, times = store.lock("python"), []
    for _ in range(310):
        began = time.perf_counter()
        with lock:
            pass
        times.append(time.perf_counter() - began)
    return statistics.median(times[10:]) * 1000


def main():
    url, rounds = sys.argv[1], int((sys.argv[2:] or ["3"])[0])
    code = "import time; begin = time.perf_counter(); import leaselock; print(time.perf_counter() - begin)"
    imports = [float(subprocess.check_output([sys.executable, "-c", code])) * 1000 for _ in range(10)]
    print(f"import leaselock: {statistics.median(imports):.1f} ms")
    pairs = [(rust(url), python(url)) for _ in range(rounds)]
    for ours, theirs in pairs:
        print(f"Rust {ours:.3f} ms, Python {theirs:.3f} ms: {theirs / ours:.2f}")
    print(f"median ratio {statistics.median(theirs / ours for ours, theirs in pairs):.2f}")


main()
