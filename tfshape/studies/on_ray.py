"""Tasks on a Ray cluster: the extra `tfshape[ray]`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from tfshape import checks, strict_json
from tfshape.studies import worker
from tfshape.studies.local import most_workers

_LOOPBACK = "127.0.0.1"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # unless it is 0, newer Ray takes an outer address instead of loopback


class OnRay:
    """Runs tasks on a Ray cluster, each with one core.

    Attributes:
        address: of a running cluster, as `ray.init` takes it ("auto": the one that this machine is part of); None
            starts one on this machine for as long as the study runs, which no other machine can reach. Machines of a
            cluster need tfshape installed, and should see the study's folder under the same path; one that does not
            keeps a cache of its own there.
        workers: cores of the cluster that is started, >= 1; None: all. Not for a running cluster, which has its own.

    Raises:
        ValueError: a number outside these, or Ray is not installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        checks.require("workers", workers is None or address is None, "None for a running cluster", workers)
        workers = None if workers is None else checks.integer("workers", workers, 1, most_workers())
        if address is None:
            os.environ.setdefault(_CLUSTERS, "0")  # Ray reads it when it is imported
        try:
            import ray
        except ImportError:
            checks.fail("runner", "'local' where Ray is not installed (pip install 'tfshape[ray]')", "ray")
        self._ray, self._address, self._workers = ray, address, workers
        self._running: dict = {}

    def __enter__(self):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {}
        if self._address is None:
            # a worker that dies while it starts is missed late, and by `init`, if started beforehand, never
            config = {"prestart_worker_first_driver": False, "worker_register_timeout_seconds": 20}
            config["worker_niceness"] = 0  # as local workers; 15 is the default
            options = {"include_dashboard": False, "num_cpus": self._workers, "_system_config": config}
            options["_node_ip_address"] = _LOOPBACK  # whoever reaches its ports can run code
        try:
            with _workers_import_as_we_do():
                self._ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"address={self._address!r}: no Ray cluster there ({_line(error)})") from None
        if self._address is None and self._ray.util.get_node_ip_address() != _LOOPBACK:
            self._ray.shutdown()
            raise ValueError(f"address=None: other machines could reach it; set {_CLUSTERS}=0 before importing ray")
        # a dead worker's trial is tried again by the driver, as with every runner
        self._execute = self._ray.remote(num_cpus=1, max_retries=0)(_execute)
        return self

    def __exit__(self, *error):
        self._ray.shutdown()

    def __str__(self):
        return f"Ray, {self._cores()} cores"

    def _cores(self):
        return int(self._ray.cluster_resources().get("CPU", 1))

    def free(self) -> int:
        """How many tasks can be submitted now: a core always finds its next one waiting."""
        return 2 * self._cores() - len(self._running)

    def submit(self, task: dict[str, Any]) -> None:
        """Starts a task, a dict as `worker.execute` takes it."""
        folder = os.getcwd() if self._address is None else None
        self._running[self._execute.remote(strict_json.dumps(task), folder)] = task

    def wait(self, seconds: float) -> list[tuple[dict, list | None, str | None]]:
        """What came of tasks; see `Local.wait`."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if ready:  # and all others that have finished meanwhile
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        found: list[tuple[dict, list | None, str | None]] = []
        for reference in ready:
            task = self._running.pop(reference)
            try:
                found.append((task, strict_json.loads(self._ray.get(reference)), None))
            except self._ray.exceptions.RayError as error:
                found.append((task, None, f"its worker died: {_line(error)}"))
        return found


@contextlib.contextmanager
def _workers_import_as_we_do():
    """Ray has workers import from the working directory, so while it starts that is one we import from anyway."""
    here, path = os.getcwd(), os.environ.get("PYTHONPATH")
    home = sys.path[0] or here
    os.environ["PYTHONPATH"] = worker.import_path()
    os.chdir(home if os.path.isdir(home) else "/")
    try:
        yield
    finally:
        os.chdir(here)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _execute(task, folder):
    if folder is not None:
        os.chdir(folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    return strict_json.dumps(worker.execute(strict_json.loads(task)))


def _line(error):
    return " ".join(str(error).split())[:300]
