"""The whole identity of a scan: two runs with an equal plan give the same store."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from tism_scan.errors import PlanError
from tism_scan.genome.intervals import Interval
from tism_scan.genome.spans import Spans, n_bases_within, overlaps
from tism_scan.plan.packing import PACK, Pack, Part, short_chroms
from tism_scan.plan.probes import Probes
from tism_scan.plan.scoring import ONE_GRADIENT, Scoring, path_text
from tism_scan.plan.selection import Selection
from tism_scan.plan.tiling import Block, Stretch
from tism_scan.storage.digests import short_digest

# Of a store's record. 1 named shards' CRC32C in its markers, which does not depend on what is in them; the
# markers of 2 bear no plan; 4 has short chroms in one array, very many spans in a file of their own, or
# gradients along a path; 5 is of exact ISM at selected bases; 6 has a standard deviation beside each mean; 7
# names the codec.
FORMAT = 3
NEWER_FORMAT = 4
SELECTION_FORMAT = 5
SD_FORMAT = 6
CODEC_FORMAT = 7
_READABLE = (2, 3, 4, 5, 6, 7)
_IDENTITY = 2  # of what the digest is taken, so that a plan's stays the same
SHARD_BYTES = 128 << 20
DEFAULT_BLOCK_BP = 1 << 20
SMALLEST_BLOCK_BP_FOR_MANY_TRACKS = 1 << 18
SMALLEST_BLOCK_BP_FOR_FEW_BASES = 1 << 15
BLOCKS_AIMED_AT = 32
MOST_BLOCKS = 50_000_000  # of which a listing still fits into memory
_KEYS_SHOWN = 8

Codec = Literal["lz4", "zstd"]


@dataclass(frozen=True)
class ScanPlan:
    """What is scanned, with what, and how the result is cut into blocks.

    Attributes
    ----------
    scoring : Scoring
    genome_digest, weights_digest : str
        SHA-256 of the two files; of an ensemble, those of all models, see `tism_scan.storage.digests`.
    model : str
        Name of the network.
    chroms : dict of str to int
        Every chrom of the genome and its length, in FASTA order.
    wanted : dict of str to Spans
        The bases to score, merged and sorted; chroms without any are left out.
    block_bp : int
        Length of a block; rounded up to a multiple of the stride.
    keep_bits : int or None
        Mantissa bits that the stored scores keep; None keeps them all.
    is_packed : bool or None
        Whether short chroms share an array; by default, if there are many of them. Stores of earlier releases
        have an array for each.
    codec : {"lz4", "zstd"}
        What the stored scores are compressed with; Zstandard by earlier releases.
    selection : Selection or None
        For a refinement, how its bases were chosen: the scores are effects of exact ISM then.
    probes : Probes or None
        What the model computes on two fixed windows. Beside the plan's identity, since rounding changes it;
        unknown for stores of earlier releases.
    """

    scoring: Scoring
    genome_digest: str
    weights_digest: str
    chroms: Mapping[str, int]
    wanted: Mapping[str, Spans]
    block_bp: int = 0
    model: str = "beluga"
    keep_bits: int | None = None
    is_packed: bool | None = None
    codec: Codec = "lz4"
    selection: Selection | None = None
    probes: Probes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        given = {chrom: Spans.of(spans) for chrom, spans in self.wanted.items()}
        object.__setattr__(self, "wanted", given)
        problems = [
            f"{chrom!r} is no chrom of the genome" for chrom in self.wanted if chrom not in self.chroms
        ]
        problems += [
            f"the wanted spans of {chrom!r} are not sorted, apart and within 0 to {self.chroms[chrom]:,}"
            for chrom, spans in self.wanted.items()
            if chrom in self.chroms and not spans.are_merged(self.chroms[chrom])
        ]
        if not any(self.wanted.values()):
            problems.append("no base is wanted")
        if self.keep_bits is not None and not 1 <= self.keep_bits <= 23:
            problems.append(
                f"keep_bits {self.keep_bits} is outside 1 to 23, the bits of a float32's mantissa"
            )
        if self.codec not in get_args(Codec):
            problems.append(f"codec {self.codec!r} is unknown; expected {' or '.join(get_args(Codec))}")
        if self.block_bp < 0:
            problems.append(f"a block of {self.block_bp} bp is impossible; expected a length of 1 or more")
        if problems:
            raise PlanError("; ".join(problems))
        block_bp = self.block_bp or self._default_block_bp()
        stride = self.scoring.stride
        object.__setattr__(self, "block_bp", -(-block_bp // stride) * stride)
        # One order and no empty chroms, whatever the caller's: else equal plans had several digests.
        wanted = {chrom: given[chrom] for chrom in self.chroms if given.get(chrom)}
        object.__setattr__(self, "wanted", wanted)
        object.__setattr__(self, "is_packed", self.is_packed is not False and self.pack is not None)

    def _default_block_bp(self) -> int:
        """Return a block whose shard is neither too large nor, for few bases, the only one."""
        value_bytes = 4 * self.scoring.n_channels * len(self.scoring.tracks)
        block_bp = DEFAULT_BLOCK_BP
        while block_bp > SMALLEST_BLOCK_BP_FOR_MANY_TRACKS and block_bp * value_bytes > SHARD_BYTES:
            block_bp //= 2
        while block_bp > SMALLEST_BLOCK_BP_FOR_FEW_BASES and block_bp * BLOCKS_AIMED_AT > self.n_wanted:
            block_bp //= 2
        return block_bp

    @property
    def n_wanted(self) -> int:
        """Number of bases to score, N and ambiguous ones among them."""
        return sum(spans.n_bases for spans in self.wanted.values())

    @property
    def tracks_per_shard(self) -> int:
        """Number of tracks that one stored object holds."""
        fit = SHARD_BYTES // (4 * self.scoring.n_channels * self.block_bp)
        return max(1, min(len(self.scoring.tracks), fit))

    @property
    def n_shards_per_block(self) -> int:
        """Number of stored objects of one block."""
        return -(-len(self.scoring.tracks) // self.tracks_per_shard)

    @cached_property
    def pack(self) -> Pack | None:
        """The array that short chroms share, if any do."""
        if self.is_packed is False:
            return None
        wanted = {chrom: self.chroms[chrom] for chrom in self.wanted}
        short = short_chroms(wanted, self.scoring.lattice, self.block_bp)
        return Pack.of(short, self.scoring.lattice) if short else None

    @cached_property
    def arrays(self) -> Mapping[str, int]:
        """The stored arrays and their lengths, bp: one for each wanted chrom, those in the pack apart."""
        packed = self.pack.start_of if self.pack else {}
        arrays = {chrom: self.chroms[chrom] for chrom in self.wanted if chrom not in packed}
        return arrays | ({PACK: len(self.pack)} if self.pack else {})

    def array_of(self, chrom: str) -> tuple[str, int]:
        """Return the array that holds a chrom, and where the chrom begins in it."""
        start = self.pack.start_of.get(chrom) if self.pack else None
        return (chrom, 0) if start is None else (PACK, start)

    def name_of(self, array: str) -> str:
        """Return what users read for an array: the chrom's name, or how many short chroms it holds."""
        return f"{len(self.pack.chroms):,} short chroms" if array == PACK and self.pack else array

    def spans(self, array: str) -> Spans:
        """Return which bases of an array are wanted."""
        return self._packed_spans if array == PACK else self.wanted[array]

    @cached_property
    def _packed_spans(self) -> Spans:
        starts = self.pack.start_of if self.pack else {}
        return Spans(np.concatenate([self.wanted[chrom].pairs() + start for chrom, start in starts.items()]))

    def parts(self, array: str, start: int, end: int) -> list[Part]:
        """Return which bases of which chroms stand at the positions [start, end) of an array."""
        if array == PACK and self.pack:
            return self.pack.parts(start, end)
        begin = max(start, 0)
        return [Part(array, begin, min(end, self.chroms[array]), begin)]

    def chroms_of(self, block: Block) -> list[str]:
        """Return the chroms that have bases in a block."""
        return [part.chrom for part in self.parts(block.chrom, block.start, block.end)]

    def check_listable(self) -> None:
        """Raise PlanError if there are more blocks than can be listed."""
        n_blocks = sum(-(-length // self.array_block_bp(array)) for array, length in self.arrays.items())
        if n_blocks > MOST_BLOCKS:
            raise PlanError(
                f"chroms of {sum(self.arrays.values()):,} bp have {n_blocks:,} blocks; expected at most "
                f"{MOST_BLOCKS:,}; choose a larger --block-bp"
            )

    def array_block_bp(self, array: str) -> int:
        """Return the length of an array's blocks."""
        return self.scoring.lattice.block_bp(self.arrays[array], self.block_bp)

    def blocks(self, array: str) -> Iterator[Block]:
        """Yield the blocks of an array that hold a wanted base, in order."""
        spans, length, block_bp = self.spans(array), self.arrays[array], self.array_block_bp(array)
        for block in self.scoring.lattice.blocks(array, length, block_bp):
            if overlaps(spans, block.start, block.end):
                yield self._labelled(block)

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block that holds a wanted base, array by array."""
        for array in self.arrays:
            yield from self.blocks(array)

    def block(self, array: str, i_block: int) -> Block | None:
        """Return a block by its position in an array; None if it is not there, or holds no wanted base."""
        length, block_bp = self.arrays.get(array, 0), 0
        if length:
            block_bp = self.array_block_bp(array)
        if not length or i_block >= self.scoring.lattice.n_blocks(length, block_bp):
            return None
        block = self.scoring.lattice.block(array, length, block_bp, i_block)
        return self._labelled(block) if overlaps(self.spans(array), block.start, block.end) else None

    def _labelled(self, block: Block) -> Block:
        """Return a block with the names of the short chroms in it, how much of it is gaps, and is chosen."""
        if self.selection is not None:
            chosen = n_bases_within(self.spans(block.chrom), block.start, block.end)
            block = replace(block, n_chosen=chosen)
        if block.chrom != PACK:
            return block
        parts = self.parts(block.chrom, block.start, block.end)
        label = parts[0].chrom
        if len(parts) > 1:
            label = f"{len(parts):,} short chroms from {label} to {parts[-1].chrom}"
        n_bases = sum(part.end - part.start for part in parts)
        return replace(block, label=label, gap_bp=len(block) - n_bases)

    def pieces(self, chrom: str) -> Iterator[Block]:
        """Yield the intervals by which a chrom is best read: its blocks, or a short chrom as a whole."""
        array, _ = self.array_of(chrom)
        if array == chrom:
            yield from self.blocks(chrom)
        else:
            yield Block(chrom, 0, 0, self.chroms[chrom])

    def stretch(self, block: Block) -> Stretch:
        """Return the windows that a block needs."""
        stretch = self.scoring.lattice.stretch(block, self.arrays[block.chrom], self.scoring.stitch)
        if block.chrom != PACK or self.pack is None:
            return stretch
        return replace(stretch, has_window=self.pack.has_window(stretch))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain lists, dicts, strings and numbers; but not the probes."""
        return self._but_for_wanted() | {
            "wanted": [[name, spans.pairs().tolist()] for name, spans in self.wanted.items()]
        }

    def _but_for_wanted(self) -> dict[str, Any]:
        """Return what `to_json` does, without the bases to score, of which there may be very many."""
        scoring = self.scoring.to_json()
        kept = [f.name for f in fields(ScanPlan) if f.compare and f.name != "wanted"]
        described = {name: getattr(self, name) for name in kept}
        format_number = FORMAT
        if self.scoring.path == ONE_GRADIENT:  # as format 3 knows it
            del scoring["path"]
        else:
            format_number = NEWER_FORMAT
        if self.is_packed:
            format_number = NEWER_FORMAT
        else:
            del described["is_packed"]
        if self.selection is None:
            del described["selection"]
        else:
            format_number, described["selection"] = SELECTION_FORMAT, self.selection.to_json()
        if self.scoring.values == "mean+sd":
            format_number = SD_FORMAT
        if self.codec == "zstd":  # as the formats before know it
            del described["codec"]
        else:
            format_number = CODEC_FORMAT
        return described | {
            "format": format_number,
            "scoring": scoring,
            "chroms": [[name, length] for name, length in self.chroms.items()],
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
        found = settings.pop("format", None)
        if found not in _READABLE:
            raise PlanError(
                f"the plan has format {found!r}, expected {_READABLE[0]} to {_READABLE[-1]}; use the "
                "release that wrote it"
            )
        settings["chroms"] = dict(settings["chroms"])
        settings["wanted"] = {name: Spans.of(spans) for name, spans in settings["wanted"]}
        is_packed = bool(settings.pop("is_packed", False))
        settings.setdefault("codec", "zstd")
        if "selection" in settings:
            settings["selection"] = Selection.from_json(settings["selection"])
        settings["scoring"] = Scoring.from_json(settings["scoring"])
        plan = cls(is_packed=is_packed, **settings)
        plan.check_listable()
        return plan

    def digest(self) -> str:
        """Return the SHA-256 of the plan's canonical JSON."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        if self.selection is None:
            described = self.to_json()
        else:  # single bases by the million, which are digested as they are held
            spans = {name: spans.pairs().tobytes() for name, spans in self.wanted.items()}
            digests = [[name, hashlib.sha256(held).hexdigest()] for name, held in spans.items()]
            described = self._but_for_wanted() | {"wanted": digests}
        canonical = json.dumps(described | {"format": _IDENTITY}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differences(self, other: "ScanPlan") -> list[str]:
        """Return a phrase for each field in which another plan differs: its name and both values."""
        mine, theirs = _summary(self), _summary(other)
        for one, another in zip(self.scoring.tracks, other.scoring.tracks, strict=False):
            if one.key == another.key and one.name != another.name:  # the other list of names, or none
                mine["tracks"], theirs["tracks"] = ((f"{each.key} {each.name!r}",) for each in (one, another))
                break
        pairs = {name: (one, theirs.get(name, ("nothing",))) for name, one in mine.items()}
        return [_difference(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def _difference(name: str, one: tuple[str, ...], another: tuple[str, ...]) -> str:
    """Return both values of a field: the words, and the digest beside them where the words are the same."""
    if one[0] != another[0]:
        return f"{name} {one[0]}, not {another[0]}"
    return f"{name} {' '.join(one)}, not {' '.join(another)}"


def _summary(plan: ScanPlan) -> dict[str, tuple[str, ...]]:
    """Return each field of a plan in a few words, and a digest beside them where these are not all of it."""
    described = plan.to_json()
    del described["format"]  # which follows from what is described
    summary = described.pop("scoring") | described
    summary["path"] = path_text(plan.scoring.path)
    keys = [track.key for track in plan.scoring.tracks]
    more = f",... {len(keys):,} in all" if len(keys) > _KEYS_SHOWN else ""
    digests = {name: _short_hash(summary[name]) for name in ("tracks", "chroms")}
    digests["wanted"] = _short_hash(sorted(summary["wanted"]))
    summary["tracks"] = ",".join(keys[:_KEYS_SHOWN]) + more
    summary["wanted"] = _wanted_text(plan)
    summary["chroms"] = f"{len(plan.chroms):,} chroms"
    for name in ("genome_digest", "weights_digest"):
        summary[name] = short_digest(summary[name])
    if plan.selection is not None:
        summary["selection"] = plan.selection.rule
    return {
        name: (str(value), digests[name]) if name in digests else (str(value),)
        for name, value in summary.items()
    }


def _wanted_text(plan: ScanPlan) -> str:
    n_spans = sum(len(spans) for spans in plan.wanted.values())
    if n_spans > 1:
        return f"{plan.n_wanted:,} bp in {n_spans:,} spans"
    ((chrom, ((start, end),)),) = plan.wanted.items()
    return str(Interval(chrom, start, end))


def _short_hash(described: object) -> str:
    return f"(#{hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]})"
