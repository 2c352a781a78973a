"""The whole identity of a scan: two runs with an equal plan give the same store."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

from tism_scan.errors import PlanError
from tism_scan.genome.spans import Spans, overlaps
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Block, Stretch
from tism_scan.plan.tracks import Track

# Of a store's record. 1 named shards' CRC32C in its markers, which does not depend on what is in them; the
# markers of 2 bear no plan.
FORMAT = 3
_READABLE = (2, 3)
_IDENTITY = 2  # of what the digest is taken, so that a plan's stays the same
SHARD_BYTES = 128 << 20
LARGEST_BLOCK_BP = 1 << 20
SMALLEST_BLOCK_BP_FOR_MANY_TRACKS = 1 << 18
SMALLEST_BLOCK_BP_FOR_FEW_BASES = 1 << 15
BLOCKS_AIMED_AT = 32
MOST_BLOCKS = 50_000_000  # of which a listing still fits into memory
_KEYS_SHOWN = 8


@dataclass(frozen=True)
class ScanPlan:
    """What is scanned, with what, and how the result is cut into blocks.

    Attributes
    ----------
    scoring : Scoring
    genome_digest, weights_digest : str
        SHA-256 of the two files.
    model : str
        Name of the network.
    chroms : dict of str to int
        Every chrom of the genome and its length, in FASTA order.
    wanted : dict of str to tuple of (start, end)
        The bases to score, merged and sorted; chroms without any are left out.
    block_bp : int
        Length of a block; rounded up to a multiple of the stride.
    keep_bits : int or None
        Mantissa bits that the stored scores keep; None keeps them all.
    """

    scoring: Scoring
    genome_digest: str
    weights_digest: str
    chroms: Mapping[str, int]
    wanted: Mapping[str, Spans]
    block_bp: int = 0
    model: str = "beluga"
    keep_bits: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{chrom!r} is no chrom of the genome" for chrom in self.wanted if chrom not in self.chroms
        ]
        problems += [
            f"the wanted spans of {chrom!r} are not sorted, apart and within 0 to {self.chroms[chrom]:,}"
            for chrom, spans in self.wanted.items()
            if chrom in self.chroms and not _is_merged(spans, self.chroms[chrom])
        ]
        if not any(self.wanted.values()):
            problems.append("no base is wanted")
        if self.keep_bits is not None and not 1 <= self.keep_bits <= 23:
            problems.append(
                f"keep_bits {self.keep_bits} is outside 1 to 23, the bits of a float32's mantissa"
            )
        if self.block_bp < 0:
            problems.append(f"a block of {self.block_bp} bp is impossible; expected a length of 1 or more")
        if problems:
            raise PlanError("; ".join(problems))
        block_bp = self.block_bp or self._default_block_bp()
        stride = self.scoring.stride
        object.__setattr__(self, "block_bp", -(-block_bp // stride) * stride)
        # One order and no empty chroms, whatever the caller's: else equal plans had several digests.
        wanted = {chrom: self.wanted[chrom] for chrom in self.chroms if self.wanted.get(chrom)}
        object.__setattr__(self, "wanted", wanted)

    def _default_block_bp(self) -> int:
        """Return a block whose shard is neither too large nor, for few bases, the only one."""
        value_bytes = 4 * self.scoring.n_channels * len(self.scoring.tracks)
        block_bp = LARGEST_BLOCK_BP
        while block_bp > SMALLEST_BLOCK_BP_FOR_MANY_TRACKS and block_bp * value_bytes > SHARD_BYTES:
            block_bp //= 2
        while block_bp > SMALLEST_BLOCK_BP_FOR_FEW_BASES and block_bp * BLOCKS_AIMED_AT > self.n_wanted:
            block_bp //= 2
        return block_bp

    @property
    def n_wanted(self) -> int:
        """Number of bases to score, N and ambiguous ones among them."""
        return sum(end - start for spans in self.wanted.values() for start, end in spans)

    @property
    def tracks_per_shard(self) -> int:
        """Number of tracks that one stored object holds."""
        fit = SHARD_BYTES // (4 * self.scoring.n_channels * self.block_bp)
        return max(1, min(len(self.scoring.tracks), fit))

    @property
    def n_shards_per_block(self) -> int:
        """Number of stored objects of one block."""
        return -(-len(self.scoring.tracks) // self.tracks_per_shard)

    def check_listable(self) -> None:
        """Raise PlanError if there are more blocks than can be listed."""
        lengths = [self.chroms[chrom] for chrom in self.wanted]
        n_blocks = sum(-(-self.chroms[chrom] // self.chrom_block_bp(chrom)) for chrom in self.wanted)
        if n_blocks > MOST_BLOCKS:
            raise PlanError(
                f"chroms of {sum(lengths):,} bp have {n_blocks:,} blocks; expected at most {MOST_BLOCKS:,}; "
                "choose a larger --block-bp"
            )

    def chrom_block_bp(self, chrom: str) -> int:
        """Return the length of a chrom's blocks."""
        return self.scoring.lattice.block_bp(self.chroms[chrom], self.block_bp)

    def blocks(self, chrom: str) -> Iterator[Block]:
        """Yield the blocks of a chrom that hold a wanted base, in order."""
        block_bp = self.chrom_block_bp(chrom)
        for block in self.scoring.lattice.blocks(chrom, self.chroms[chrom], block_bp):
            if overlaps(self.wanted[chrom], block.start, block.end):
                yield block

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block that holds a wanted base, chrom by chrom."""
        for chrom in self.wanted:
            yield from self.blocks(chrom)

    def stretch(self, block: Block) -> Stretch:
        """Return the windows that a block needs."""
        return self.scoring.lattice.stretch(block, self.chroms[block.chrom], self.scoring.stitch)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain lists, dicts, strings and numbers."""
        scoring = {f.name: getattr(self.scoring, f.name) for f in fields(Scoring)}
        described = {f.name: getattr(self, f.name) for f in fields(ScanPlan)}
        return described | {
            "format": FORMAT,
            "scoring": scoring | {"tracks": _plain(self.scoring.tracks)},
            "chroms": [[name, length] for name, length in self.chroms.items()],
            "wanted": [[name, [list(span) for span in spans]] for name, spans in self.wanted.items()],
        }

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "ScanPlan":
        """Return the plan that `to_json` described.

        Raises
        ------
        PlanError
            If the description is of another format, or of more blocks than can be listed.
        """
        settings = dict(described)
        if settings.pop("format", None) not in _READABLE:
            found = described.get("format")
            raise PlanError(
                f"the plan has format {found!r}, expected {' or '.join(map(str, _READABLE))}; use the "
                "release that wrote it"
            )
        scoring = dict(settings.pop("scoring"))
        scoring["tracks"] = tuple(Track.from_json(track) for track in scoring["tracks"])
        settings["chroms"] = dict(settings["chroms"])
        settings["wanted"] = {
            name: tuple((start, end) for start, end in spans) for name, spans in settings["wanted"]
        }
        plan = cls(scoring=Scoring(**scoring), **settings)
        plan.check_listable()
        return plan

    def digest(self) -> str:
        """Return the SHA-256 of the plan's canonical JSON."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        canonical = json.dumps(self.to_json() | {"format": _IDENTITY}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differences(self, other: "ScanPlan") -> list[str]:
        """Return a phrase for each field in which another plan differs: its name and both values."""
        mine, theirs = _summary(self), _summary(other)
        return [f"{name} {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


def _is_merged(spans: Spans, length: int) -> bool:
    """Return whether spans are what `wanted_spans` gives: in order, apart, not empty, and on the chrom."""
    ends = [-1, *(position for span in spans for position in span), length + 1]
    return all(before < after for before, after in pairwise(ends))


def _plain(tracks: tuple[Track, ...]) -> list[dict[str, Any]]:
    """Return tracks as a store gives them back: a weight of 1 is 1.0."""
    return [Track.from_json(track.to_json()).to_json() for track in tracks]


def _summary(plan: ScanPlan) -> dict[str, str]:
    """Return each field of a plan in a few characters."""
    described = plan.to_json()
    summary = described.pop("scoring") | described
    keys = [track.key for track in plan.scoring.tracks]
    more = f",... {len(keys):,} in all" if len(keys) > _KEYS_SHOWN else ""
    summary["tracks"] = ",".join(keys[:_KEYS_SHOWN]) + more + _short_hash(summary["tracks"])
    n_spans = sum(len(spans) for spans in plan.wanted.values())
    summary["wanted"] = f"{plan.n_wanted:,} bp in {n_spans:,} spans" + _short_hash(sorted(summary["wanted"]))
    summary["chroms"] = f"{len(plan.chroms):,} chroms" + _short_hash(summary["chroms"])
    for name in ("genome_digest", "weights_digest"):
        summary[name] = summary[name][:12]
    return {name: str(value) for name, value in summary.items()}


def _short_hash(described: object) -> str:
    return f" (#{hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]})"
