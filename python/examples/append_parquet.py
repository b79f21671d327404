"""Several processes append to one Parquet table, under a lock and a fence: nothing is lost, nothing is there twice.

Each batch is a file of its own, and the manifest says which files belong to the table. Only the manifest is fenced: a
writer that was frozen and wakes up late may leave a file behind, but the store refuses its manifest.
"""

import io
import json
import multiprocessing
import os
import sys
import tempfile

import pyarrow
import pyarrow.parquet

import leaselock

MANIFEST = "tables/events/manifest.json"


def append(url, writer, batches):
    store = leaselock.open(url)
    for batch in range(batches):
        rows = pyarrow.table({"writer": [writer] * 3, "batch": [batch] * 3, "row": [0, 1, 2]})
        data = io.BytesIO()
        pyarrow.parquet.write_table(rows, data)
        with store.lock("tables/events", ttl=30, timeout=120) as guard:
            fence = guard.fence()
            manifest = fence.claim(MANIFEST)
            files = json.loads(manifest.data) if manifest.data else []
            name = f"tables/events/part-{guard.token}.parquet"
            fence.put_new(name, data.getvalue())
            manifest.put(json.dumps([*files, name]).encode())


def read(url):
    store = leaselock.open(url)
    files = json.loads(store.objects().read(MANIFEST))
    return pyarrow.concat_tables([table(store.objects().read(name)) for name in files])


def table(data):
    # Without Arrow's threads: after read_table() of a file of Python's they may abort a process that ends
    # (apache/arrow#34314).
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data), pre_buffer=False).read(use_threads=False)


if __name__ == "__main__":
    url = os.environ.get("LEASELOCK_STORE") or f"file://{tempfile.mkdtemp()}/locks"
    writers, batches = 4, 3
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append, args=(url, number, batches)) for number in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("a writer has failed")
    rows = read(url).to_pylist()
    expected = {(writer, batch, row) for writer in range(writers) for batch in range(batches) for row in range(3)}
    found = [(row["writer"], row["batch"], row["row"]) for row in rows]
    assert len(found) == len(set(found)) and set(found) == expected, "rows are lost, or there twice"
    print(f"{len(found)} rows of {writers} writers, each exactly once")
