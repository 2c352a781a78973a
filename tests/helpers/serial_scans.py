"""A scan in this process with an engine that a test has made."""

from tism_scan.scan.blocks import check_genome
from tism_scan.scan.serial import scan_serially
from tism_scan.scan.worker import BlockWorker


def scan_with(genome, engine, store, **settings):
    """Scan a store with an engine and an open genome, and return the result."""

    class Given(BlockWorker):
        def make_engine(self, plan):
            return engine

        def open_genome(self, plan):
            check_genome(genome, plan)
            return genome

        def close(self):
            self._model_thread.shutdown()

    return scan_serially(store, genome.path, "none", worker_class=Given, **settings)
