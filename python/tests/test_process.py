"""Processes, signals, the interpreter's lock and its end."""

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import leaselock
from conftest import PATIENCE, eventually


def python(code, *arguments, **more):
    """Runs a program of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)


def test_the_interpreters_lock_does_not_starve_renewal(store):
    with store.lock("x", ttl=2) as guard:
        # Unlike CDLL, PyDLL keeps the lock.
        ctypes.PyDLL(None).sleep(6)
        assert guard.is_held
        guard.check()
    assert store.lock("x").inspect()["history"][-1]["ended"] == "released"


def test_a_waiter_in_asyncio_does_not_hold_up_renewal(store):
    """What wakes Python waits for the interpreter's lock in a thread of its own."""
    import asyncio

    async def main():
        guard = await store.lock("x", ttl=2).acquire_async()
        waiting = asyncio.ensure_future(store.lock("x").acquire_async(timeout=0.5))
        await asyncio.sleep(0)
        ctypes.PyDLL(None).sleep(6)
        assert guard.is_held
        with pytest.raises(leaselock.Timeout):
            await waiting
        await guard.release_async()

    asyncio.run(main())


def test_a_fork_gets_a_store_of_its_own_and_no_guards(store):
    with store.lock("held") as guard:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert not guard.is_held and guard.remaining == 0
                for call in [guard.check, guard.release, guard.renew]:
                    with pytest.raises(leaselock.Forked):
                        call()
                assert store.lock("held").try_acquire() is None
                with store.lock("of the child") as own:
                    assert own.is_held
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert guard.is_held
        guard.renew()


def in_a_child(work):
    """Forks, runs `work` in the child, and answers how that exited: with 0 if `work` raised nothing."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_that_leaves_a_block_by_an_exception_gets_that(store):
    def work():
        with store.lock("x"):
            if (pid := os.fork()) == 0:
                sys.exit(7)
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    assert in_a_child(work) == 7


def test_threads_of_a_child_share_its_store(store):
    def work():
        guards, begin = [], threading.Barrier(8)

        def hold(number):
            begin.wait()
            guards.append(store.lock(f"l/{number}", ttl=60).acquire())

        threads = [threading.Thread(target=hold, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(guards) == 8
        store.shutdown()
        assert not any(guard.is_held for guard in guards)

    for _ in range(3):
        assert in_a_child(work) == 0


def count(url, rounds, name):
    """Adds to a number in a file that nothing but the lock protects."""
    count_on(leaselock.open(url), rounds, name)


def count_on(store, rounds, name):
    for _ in range(rounds):
        with store.lock("counter", timeout=PATIENCE):
            with open(name) as file:
                value = int(file.read())
            with open(name, "w") as file:
                file.write(str(value + 1))


STORE = None


def count_in(rounds, name):
    """With the store that the parent has opened, as a pre-forking server does."""
    count_on(STORE, rounds, name)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_exclude_each_other(tmp_path, method):
    global STORE
    name = tmp_path / "count"
    name.write_text("0")
    url = f"file://{tmp_path}/locks"
    STORE = leaselock.open(url)
    with STORE.lock("before"):
        pass
    context = multiprocessing.get_context(method)
    target, arguments = (count_in, (5, name)) if method == "fork" else (count, (url, 5, name))
    processes = [context.Process(target=target, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert name.read_text() == "20"


def test_control_c_ends_a_wait(tmp_path):
    url = f"file://{tmp_path}/locks"
    lock = leaselock.open(url).lock("x")
    holder = lock.acquire()
    code = """
        import sys, leaselock
        try:
            # In a queue, so that others can see that it waits.
            leaselock.open(sys.argv[1]).lock("x", fair=True).acquire()
        except KeyboardInterrupt:
            print("interrupted")
    """
    waiting = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), url], stdout=subprocess.PIPE, text=True
    )
    eventually("it waits", lambda: lock.inspect()["waiters"])
    waiting.send_signal(signal.SIGINT)
    output, _ = waiting.communicate(timeout=PATIENCE)
    assert output == "interrupted\n"
    assert holder.is_held


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise ValueError"])
def test_the_end_of_the_interpreter_gives_the_lock_back(tmp_path, ending):
    url = f"file://{tmp_path}/locks"
    code = """
        import sys, leaselock
        store = leaselock.open(sys.argv[1])
        guard = store.lock("x", ttl=60).acquire()
        exec(sys.argv[2])
    """
    python(code, url, ending)
    assert leaselock.open(url).lock("x").inspect()["state"] == "free"


BUSY = {
    "clients in a thread that nobody waits for": """
        def serve():
            async def client(number):
                while True:
                    with contextlib.suppress(Exception):
                        async with store.lock(f"l/{number}"):
                            await asyncio.sleep(0)

            async def main():
                await asyncio.gather(*(client(number) for number in range(3)))

            asyncio.run(main())

        threading.Thread(target=serve, daemon=True).start()
        time.sleep(0.3)
    """,
    "callbacks": """
        guards = [store.lock(f"l/{number}", ttl=2).acquire() for number in range(4)]
        for guard in guards:
            guard.on_lost(work)
            store.lock(guard.name).break_lease(force=True)
        begun.wait()
    """,
    "updates": """
        def serve():
            async def main():
                await asyncio.gather(*(store.objects().update_async(f"data/{n}", work) for n in range(4)))

            asyncio.run(main())

        threading.Thread(target=serve, daemon=True).start()
        begun.wait()
    """,
}


@pytest.mark.parametrize("what", BUSY)
def test_the_end_of_the_interpreter_is_no_crash(tmp_path, what):
    """What the package's threads do in Python then is done, or is not begun."""
    begin = """
        import asyncio, contextlib, sys, threading, time, leaselock
        begun = threading.Event()

        def work(_):
            begun.set()
            for _ in range(100):
                time.sleep(0.002)

        class Late:
            def __del__(self, sleep=time.sleep):
                sleep(0.3)

        late = Late()
        store = leaselock.open(sys.argv[1])
    """
    code = textwrap.dedent(begin) + textwrap.dedent(BUSY[what]) + "sys.exit(3)"
    for round in range(4):
        output = python(code, f"file://{tmp_path}/{round}")
        assert output.returncode == 3 and "Fatal" not in output.stderr, output


def test_a_store_that_does_not_answer_does_not_hold_up_the_end(tmp_path):
    """The lease ends by itself."""
    code = """
        import os, signal, sys, time, leaselock
        store = leaselock.open(sys.argv[1])
        guard = store.lock("x", ttl=600).acquire()
        os.chmod(sys.argv[2], 0)
        os.rename(sys.argv[2], sys.argv[2] + ".gone")
        with open(sys.argv[2], "w"):
            pass
    """
    began = time.monotonic()
    locks = tmp_path / "locks"
    locks.mkdir()
    assert python(code, f"file://{locks}", str(locks)).returncode == 0
    assert time.monotonic() - began < PATIENCE / 2


def test_a_second_interpreter_is_refused_clearly():
    code = """
        import leaselock
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import sys
        interpreter = interpreters.create()
        program = f"import sys; sys.path[:] = {sys.path!r}; import leaselock"
        try:
            failed = interpreters.run_string(interpreter, program)
        except Exception as error:
            failed = error
        print(failed if failed is not None else "imported")
    """
    output = python(code)
    said = output.stdout + output.stderr
    assert "interpreters" in said and "imported" not in output.stdout.splitlines(), said


def test_logging(tmp_path):
    code = """
        import logging, sys, time, leaselock
        said = []

        class Listener(logging.Handler):
            def emit(self, record):
                said.append(f"{record.name} {record.levelname} {record.getMessage()}")

        logging.basicConfig(level=logging.INFO, handlers=[Listener()])
        leaselock.log_level(logging.INFO)
        store = leaselock.open(sys.argv[1])
        guard = store.lock("x").acquire()
        store.lock("x").break_lease(force=True, reason="a test")
        end = time.monotonic() + float(sys.argv[2])
        while not any("broke" in line for line in said) and time.monotonic() < end:
            time.sleep(0.01)
        print("\\n".join(said))
    """
    output = python(code, f"file://{tmp_path}/locks", str(PATIENCE / 2))
    assert "leaselock INFO acquired" in output.stdout, output
    assert "leaselock WARNING broke a lease" in output.stdout, output


def test_import_is_quick():
    code = "import time; begin = time.perf_counter(); import leaselock; print(time.perf_counter() - begin)"
    # By ratio: against what any program imports.
    other = "import time; begin = time.perf_counter(); import asyncio, json; print(time.perf_counter() - begin)"
    ours = min(float(python(code).stdout) for _ in range(5))
    theirs = min(float(python(other).stdout) for _ in range(5))
    assert ours < 2 * theirs, f"{ours * 1000:.1f} ms against {theirs * 1000:.1f} ms"


def test_the_command_and_python_see_the_same_locks(store, command, tmp_path):
    url = f"file://{tmp_path}/locks"
    environment = {**os.environ, "LEASELOCK_STORE": url}

    def leaselock_(*arguments):
        return subprocess.run(
            [command, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )

    with store.lock("x", owner="python") as guard:
        assert leaselock_("run", "-n", "x", "--", "true").returncode == 75
        shown = json.loads(leaselock_("show", "x", "--json").stdout)
        assert shown == {**store.lock("x").inspect(), "holders": shown["holders"]}
        assert shown["holders"][0]["token"] == guard.token
        assert shown["holders"][0]["owner"]["label"] == "python"
    holder = leaselock_("acquire", "--ttl", "1m", "x").stdout.strip()
    assert store.lock("x").try_acquire() is None
    store.lock("x").resume(holder).release()
    assert leaselock_("run", "-n", "x", "--", "true").returncode == 0


def test_rust_and_python_contend(url, command, tmp_path):
    """Processes of both kinds count in one file, which nothing but the lock protects."""
    name = tmp_path / "count"
    name.write_text("0")
    environment = {**os.environ, "LEASELOCK_STORE": url}
    increment = f"value=$(cat {name}); echo $((value + 1)) > {name}"
    loop = f"for round in 1 2 3; do '{command}' run counter -- sh -c '{increment}' || exit 1; done"
    shells = [subprocess.Popen(["sh", "-c", loop], env=environment) for _ in range(2)]
    context = multiprocessing.get_context("spawn")
    pythons = [context.Process(target=count, args=(url, 3, name)) for _ in range(2)]
    for process in pythons:
        process.start()
    for process in pythons:
        process.join(2 * PATIENCE)
        assert process.exitcode == 0
    for shell in shells:
        assert shell.wait(2 * PATIENCE) == 0
    assert name.read_text().strip() == "12"
