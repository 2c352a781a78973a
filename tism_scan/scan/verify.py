"""Whether a store still holds what was published; what is damaged is named, and becomes pending again."""

import os
import random
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.choice import make_engine
from tism_scan.engine.devices import name_of_device
from tism_scan.errors import StoreError
from tism_scan.genome.fasta import Genome
from tism_scan.models.contract import Model
from tism_scan.models.frozen import outside_inference_mode
from tism_scan.models.source import Source
from tism_scan.plan.tiling import Block
from tism_scan.progress import OnProgress, Progress
from tism_scan.scan.claim import finish
from tism_scan.scan.likeness import checked_model
from tism_scan.scan.recompute import Recomputed, recompute_block
from tism_scan.storage.folder import reading_threads
from tism_scan.storage.places import Place
from tism_scan.store.lease import Lease
from tism_scan.store.ledger import Checksum, ShardAddress, checksum_of
from tism_scan.store.owned import OwnedStore
from tism_scan.store.score_store import ScoreStore

S = TypeVar("S", bound=OwnedStore[Any])


class Damage(NamedTuple):
    """What is not as it was recorded, and how.

    Attributes
    ----------
    what : str
        The interval of a block, or the key of another object.
    fault : str
    """

    what: str
    fault: str

    def __str__(self) -> str:
        return f"{self.what} {self.fault}"


@dataclass(frozen=True)
class Sample:
    """Finished blocks, drawn at random, that are to be computed again, and with what.

    Attributes
    ----------
    n_blocks : int
    genome : Path
    model : ModelSource, GivenModel or EnsembleSource
        Both must be those of the store's plan.
    seed : int
    batch_size : int or None
    engine_of : callable
        Returns the engine for a model and a scoring, as `make_engine` does.
    """

    n_blocks: int
    genome: Path
    model: Source
    seed: int = 0
    batch_size: int | None = None
    engine_of: Callable[..., Engine] = make_engine


@dataclass
class VerifyReport:
    """What was checked, and what was found.

    Attributes
    ----------
    path : Path or Url
    is_full : bool
        Whether every object was read, or only its size compared.
    n_objects, n_bytes : int
        Objects that are recorded as finished, and their recorded size.
    damaged : list of Damage
        Blocks; they are pending again, unless the store can only be read.
    mended : list of Damage
        What was repaired at once, unless the store can only be read: metadata, records that belong to no
        block.
    swept : list of str
        Temporary files left by interrupted writers; no damage.
    recomputed : list of Recomputed
    device : str
        What computed these blocks again.
    devices : list of str
        What computed the store's.
    n_pending : int
        Blocks that are still to be computed, the damaged ones among them.
    command : str
        What was typed to begin the store, and resumes it; empty if that was not recorded.
    unit : str
        What is damaged and pending: a block, or a part of a list.
    read_only : str
        Why nothing of this could be written; empty if it could.
    """

    path: Place
    is_full: bool
    n_objects: int = 0
    n_bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)
    mended: list[Damage] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    recomputed: list[Recomputed] = field(default_factory=list)
    device: str = ""
    devices: list[str] = field(default_factory=list)
    n_pending: int = 0
    command: str = ""
    unit: str = "block"
    read_only: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether no damage was found."""
        return not self.damaged and not self.mended

    def add(self, damage: Damage, make_pending: Callable[[], object]) -> None:
        """Note a block that is damaged, and make it pending."""
        if not self.read_only:
            make_pending()
        self.damaged.append(damage)

    def mend(self, damage: Damage, remedy: str, repair: Callable[[], object]) -> None:
        """Note something else that is damaged, and repair it."""
        if not self.read_only:
            repair()
            damage = Damage(damage.what, f"{damage.fault}; {remedy}")
        self.mended.append(damage)


@outside_inference_mode
def verify_store(
    path: str | Place,
    *,
    full: bool = False,
    sample: Sample | None = None,
    break_lock: bool = False,
    on_progress: OnProgress | None = None,
) -> VerifyReport:
    """Compare a store with its records, make damaged blocks pending again, and return what was found.

    A store that can only be read is left as it is.

    Parameters
    ----------
    path : str, Path or Url
    full : bool
        Read every object and compare its CRC-32; otherwise sizes are compared, from listings.
    sample : Sample, optional
        Blocks to be computed again.
    break_lock : bool
        Take the store even if another process seems to write it.
    on_progress : callable, optional
        Called with the bytes that are checked, then with the blocks that are computed again.

    Raises
    ------
    StoreError
        If there is no store at this path, or its plan is damaged.
    LeaseError
        If a process is writing the store.
    GenomeError, WeightsError
        If those of the sample are not the plan's.
    """
    found = ScoreStore.open(path)
    show = on_progress or (lambda progress: None)
    report = VerifyReport(found.path, full)
    with held_for_verifying(found, report, break_lock=break_lock) as store:
        loaded = None
        if sample is not None:
            loaded = checked_model(store.plan, sample.genome, sample.model)
        _mend_metadata(store, report)
        _mend_records(store, report)
        _check_objects(store, report, show)
        if sample is not None and loaded is not None:
            _recompute(store, sample, loaded, report, show)
        sum_up(store, report)
        return report


@contextmanager
def held_for_verifying(store: S, report: VerifyReport, *, break_lock: bool) -> Iterator[S]:
    """Yield a store that nobody else writes: for writing, unless it can only be read, as the report says.

    Raises
    ------
    LeaseError
        If a process is writing the store.
    """
    lease = Lease(store.folder)
    report.read_only = lease.acquire_if_writable(break_lock=break_lock)
    if report.read_only:
        yield store
        return
    with lease:
        report.swept = lease.swept
        yield store.held_by(lease.tenure)


def sum_up(store: Any, report: VerifyReport) -> None:
    """Count what is pending, and consolidate a store in which nothing is."""
    damaged = {damage.what for damage in report.damaged}  # of which all are pending, if it can be written
    others = (unit for unit in store.pending(retry_failed=True) if str(unit) not in damaged)
    report.n_pending = len(damaged) + sum(1 for _ in others)
    report.command = resuming_command(store)
    if not report.read_only:
        finish(store)


def resuming_command(store: OwnedStore[Any]) -> str:
    """Return what was typed to begin a store, for the place where the store is now."""
    begun = store.ledger.provenance()
    if "command" not in begun:
        return ""
    folder, words = str(begun.get("folder", ".")), shlex.split(begun["command"])
    if {"run", "attribute"} & set(words):  # the --out of others, such as `demo`, is not the store
        words = _with_option(words, "--out", folder, store.path)
    return f"cd {shlex.quote(folder)} && {shlex.join(words)}"


def _with_option(words: list[str], option: str, folder: str, place: Place) -> list[str]:
    """Return a command whose option names a place, as it was typed if it names that already."""
    given = [i for i, word in enumerate(words) if word == option or word.startswith(f"{option}=")]
    if not given:
        return [*words, option, str(place)]
    words = list(words)
    i = given[-1]
    is_apart = words[i] == option and i + 1 < len(words)
    value = words[i + 1] if is_apart else words[i].partition("=")[2]
    if str(place) in (value, os.path.abspath(os.path.join(folder, value))):
        return words
    words[i : i + 1 + is_apart] = [option, str(place)]
    return words


def _mend_metadata(store: ScoreStore, report: VerifyReport) -> None:
    """Write the arrays' metadata again, from the plan, where it is damaged."""
    for key, content in store.unsound_metadata().items():
        fault = "is missing" if store.folder.get(key) is None else "does not describe the plan's arrays"
        report.mend(Damage(key, fault), "it was written again", partial(store.folder.put, key, content))


def _mend_records(store: ScoreStore, report: VerifyReport) -> None:
    """Remove records that cannot be read, or are of no block."""
    for key in store.ledger.damaged_failures():
        removal = partial(store.folder.remove, key)
        report.mend(Damage(key, "does not name a failed block"), "it was removed", removal)
    for key in store.ledger.foreign_markers():
        removal = partial(store.folder.remove, key)
        report.mend(Damage(key, "is of another plan"), "it was removed", removal)
    for address, checksums in store.ledger.done().items():
        if store.block_at(address) is None:
            found = Damage(f".scan/done/{'.'.join(map(str, address))}", "is of no block")
            report.mend(found, "it was removed", partial(_unmark, store, address, checksums))


def _unmark(store: ScoreStore, address: ShardAddress, checksums: Iterable[Checksum]) -> None:
    """Make an object pending."""
    for checksum in checksums:
        store.ledger.unmark(address, checksum)


def _check_objects(store: ScoreStore, report: VerifyReport, show: OnProgress) -> None:
    """Compare every finished object with its records, and make the blocks of those that differ pending."""
    done = sorted(store.ledger.done().items())
    marked = {address: checksums for address, checksums in done if store.block_at(address) is not None}
    sizes = store.shard_sizes({address.i_array for address in marked})
    report.n_objects = len(marked)
    report.n_bytes = sum(checksums[0].size for checksums in marked.values())
    n_bytes_seen = 0
    for i, (address, fault) in enumerate(_faults(store, marked, sizes, full=report.is_full)):
        n_bytes_seen += marked[address][0].size
        note = f"{i + 1:,} of {len(marked):,} objects, {len(report.damaged):,} damaged"
        show(Progress(n_bytes_seen, report.n_bytes, "bytes", note=note))
        if fault is None:
            continue
        damage = Damage(str(store.block_at(address)), f"is damaged: {store.shard_key(address)} {fault}")
        report.add(damage, partial(_unmark, store, address, marked[address]))


def _faults(
    store: ScoreStore,
    marked: dict[ShardAddress, list[Checksum]],
    sizes: dict[str, int],
    *,
    full: bool,
) -> Iterator[tuple[ShardAddress, str | None]]:
    """Yield what is wrong with each object, in order, or None."""

    def fault_of(address: ShardAddress) -> str | None:
        key = store.shard_key(address)
        return _fault_of_size(sizes.get(key), marked[address]) or (
            _fault_of_bits(store, key, marked[address]) if full else None
        )

    if not full:
        yield from ((address, fault_of(address)) for address in marked)
        return
    with reading_threads() as readers:
        yield from zip(marked, readers.map(fault_of, marked), strict=True)


def _fault_of_size(size: int | None, recorded: list[Checksum]) -> str | None:
    expected = " or ".join(f"{checksum.size:,}" for checksum in recorded)
    if size is None:
        return f"is missing, expected {expected} bytes"
    if size not in {checksum.size for checksum in recorded}:
        return f"has {size:,} bytes, expected {expected}"
    return None


def _fault_of_bits(store: ScoreStore, key: str, recorded: list[Checksum]) -> str | None:
    """Read an object and return how it differs from its records, or None."""
    try:
        content = store.folder.get(key)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if content is None:
        return "is missing"
    found = checksum_of(content)
    if found in recorded:
        return None
    expected = " or ".join(f"{checksum.crc32:08x}" for checksum in recorded)
    return f"has CRC-32 {found.crc32:08x}, expected {expected}"


def _recompute(
    store: ScoreStore, sample: Sample, loaded: Model, report: VerifyReport, show: OnProgress
) -> None:
    """Compute some finished blocks again, and make those that come out differently pending."""
    done = store.done_blocks()
    blocks = [block for block in store.plan.all_blocks() if (block.chrom, block.i_block) in done]
    chosen = random.Random(sample.seed).sample(blocks, min(sample.n_blocks, len(blocks)))
    engine = sample.engine_of(loaded, store.plan.scoring, batch_size=sample.batch_size)
    report.device, report.devices = name_of_device(engine.device), store.ledger.devices()
    marked = store.ledger.done()
    with Genome(sample.genome) as genome:
        for i, block in enumerate(sorted(chosen, key=blocks.index)):
            show(Progress(i, len(chosen), "blocks", note="computing them again"))
            try:
                found = recompute_block(genome, engine, store, block)
            except StoreError as error:
                fault = f"is damaged: {error}"
            else:
                report.recomputed.append(found)
                if found.is_sound:
                    continue
                fault = (
                    f"is wrong: {found.n_wrong:,} of {found.n_values:,} scores come out differently, the "
                    f"most by {found.largest:.2g} of its track's largest"
                )
            report.add(Damage(str(block), fault), partial(_unmark_block, store, block, marked))


def _unmark_block(store: ScoreStore, block: Block, marked: Mapping[ShardAddress, Sequence[Checksum]]) -> None:
    """Make all objects of a block pending."""
    for address in store.addresses(block):
        _unmark(store, address, marked[address])
