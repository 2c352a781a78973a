"""What a store's scores are read by: regions and tracks as users name them, or positions."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, ObjectStore

from tism_scan.errors import StoreError, TrackError
from tism_scan.genome.intervals import Interval, parse_region
from tism_scan.optional import required
from tism_scan.plan.labels import names_apart
from tism_scan.plan.packing import PACK
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import MEAN, SD, minus_mean_effect
from tism_scan.plan.tiling import Block
from tism_scan.plan.tracks import Track, TrackChoice, choose_tracks, is_one
from tism_scan.storage.folder import Folder
from tism_scan.storage.object_folder import ObjectFolder
from tism_scan.storage.places import Place
from tism_scan.store.arrays import fits_plan, node_name

if TYPE_CHECKING:
    from xarray import DataArray

_NAMES_SHOWN = 4
_KINDS = {"mean": "mean {}", "tism": "{}", "mean+sd": "mean {}, and its standard deviation over models,"}


class StoredScores:
    """The scores of a store, for reading.

    Attributes
    ----------
    folder : Folder
        Where its objects are.
    plan : ScanPlan
    """

    def __init__(self, folder: Folder, plan: ScanPlan) -> None:
        self.folder, self.plan = folder, plan
        self._array_names = (*plan.chroms, *([PACK] if plan.pack else []))
        self._i_array = {name: i for i, name in enumerate(self._array_names)}
        self._nodes = tuple(map(node_name, self._array_names))
        self._group: zarr.Group | None = None
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._held_of_pack: tuple[tuple[Any, ...] | None, NDArray[np.float32]] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}: {'; '.join(self._described().values())})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a table of what the store holds."""
        rows = {"path": str(self.path), **self._described()}
        left = "style='text-align:left'"
        cells = (
            f"<tr><th {left}>{name}</th><td {left}>{html.escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{''.join(cells)}</table>"

    def _described(self) -> dict[str, str]:
        """Return in a few words what the plan says; what is done is for `status`, which lists the store."""
        plan, scoring = self.plan, self.plan.scoring
        names = names_apart(scoring.tracks)
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        kind = "TISM" if plan.selection is None else "exact ISM"
        return {
            "scores": f"{_KINDS[scoring.values].format(kind)} of the {scoring.output_space}",
            "tracks": f"{len(names):,} track{'s' * (len(names) != 1)} ({shown})",
            "genome": f"{plan.n_wanted:,} of {sum(plan.chroms.values()):,} bp wanted, "
            f"{len(plan.wanted):,} of {len(plan.chroms):,} chroms",
            "how": f"stride {scoring.stride}, stitch {scoring.stitch}, strands {scoring.strands}, "
            f"{scoring.precision}{scoring.path_note}, model {plan.model}",
        }

    @property
    def path(self) -> Place:
        """Where the store is, for every process: an absolute path, or a URL."""
        return self.folder.place

    def read(self, region: str | Interval, track: TrackChoice = None) -> NDArray[np.float32]:
        """Return the mean TISM of a region.

        Parameters
        ----------
        region : str or Interval
            ``"chr1:1,000-2,000"`` (1-based, both ends included), ``"chr1"``, or an interval.
        track : str, int, or sequence of these, optional
            The index of an output of the model, or a name, of one track; or several, as
            `tism_scan.select_tracks` reads them. All tracks by default.

        Returns
        -------
        float32 (L,) for one track, (T, L) for several or all
            Positive where the reference base supports the output; NaN where there is no score.

        Raises
        ------
        RegionError
            If the region is not on the genome.
        TrackError
            If a name fits no track, or one name fits several.
        StoreError
            If an object of the store is damaged.
        AccessError, StorageError
            If object storage refuses, or does not answer.
        """
        place, chosen = self._interval(region), self._i_tracks(track)
        values = [self.read_track(place.chrom, place.start, place.end, i_track) for i_track in chosen]
        return values[0] if is_one(track) else np.stack(values)

    def read_tism(self, region: str | Interval, track: TrackChoice = None) -> NDArray[np.float32]:
        """Return the TISM of all four bases of a region, of a store with ``values="tism"``.

        Parameters
        ----------
        region, track
            As for `read`, whose errors this method shares.

        Returns
        -------
        float32 (4, L) for one track, (T, 4, L) for several or all
            In A, C, G, T order; negative where the substitution lowers the output, 0 at the reference base,
            NaN where there is no score.

        Raises
        ------
        StoreError
            If the store holds mean TISM only.
        """
        if self.plan.scoring.values != "tism":
            raise StoreError(
                f"{self.path} holds mean TISM, one value a base; expected a store of all four bases; scan "
                "with --values tism (values='tism')"
            )
        place, chosen = self._interval(region), self._i_tracks(track)
        values = np.stack([self.read_channels(place.chrom, place.start, place.end, i) for i in chosen])
        return values[0] if is_one(track) else values

    def read_sd(self, region: str | Interval, track: TrackChoice = None) -> NDArray[np.float32]:
        """Return the standard deviation over models of a region's mean TISM, of a store of mean and sd.

        Parameters
        ----------
        region, track
            As for `read`, whose errors this method shares.

        Returns
        -------
        float32 (L,) for one track, (T, L) for several or all
            Of n models, with n - 1 in the denominator; NaN where there is no score.

        Raises
        ------
        StoreError
            If the store holds none.
        """
        if self.plan.scoring.values != "mean+sd":
            raise StoreError(
                f"{self.path} holds no standard deviation; expected a store of several models; scan with "
                "--weights for each, and --values mean+sd (values='mean+sd')"
            )
        place, chosen = self._interval(region), self._i_tracks(track)
        values = [self.read_value(place.chrom, place.start, place.end, i, SD) for i in chosen]
        return values[0] if is_one(track) else np.stack(values)

    def to_xarray(self, region: str | Interval, track: TrackChoice = None) -> "DataArray":
        """Return the scores of a region as a labelled array.

        Parameters
        ----------
        region, track
            As for `read`, whose errors this method shares.

        Returns
        -------
        xarray.DataArray
            Mean TISM, or TISM for a store of all four bases, or mean TISM and its standard deviation:
            dimensions ``track``, ``base`` (TISM) or ``statistic`` (mean and standard deviation), and
            ``position``, without ``track`` if one was named. Positions are 0-based.

        Raises
        ------
        InputError
            If xarray is not installed.
        """
        xarray = required("xarray", "labelled arrays", "xarray")
        place = self._interval(region)
        axis = self.plan.scoring.axis
        i_tracks = self._i_tracks(track)
        values = np.stack([self._read_all(place.chrom, place.start, place.end, i) for i in i_tracks])
        names = [self.plan.scoring.tracks[i].name for i in i_tracks]
        coordinates: dict[str, Any] = {"position": np.arange(place.start, place.end)}
        if axis is not None:
            coordinates[axis[0]] = list(axis[1])
        coordinates["track"] = names[0] if is_one(track) else names
        dimensions = [*([] if is_one(track) else ["track"]), *([axis[0]] if axis else []), "position"]
        array: DataArray = xarray.DataArray(
            values[0] if is_one(track) else values,
            coordinates,
            dimensions,
            name="TISM" if self.plan.scoring.values == "tism" else "mean TISM",
            attrs={"chrom": place.chrom, "output_space": self.plan.scoring.output_space},
        )
        return array

    def read_track(self, chrom: str, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return the mean TISM of one track by its position, float32 (end - start,); NaN without a score.

        Raises
        ------
        StoreError
            If an object of the store is damaged.
        AccessError, StorageError
            If object storage refuses, or does not answer.
        """
        if self.plan.scoring.values == "mean+sd":
            return self.read_value(chrom, start, end, i_track, MEAN)
        scores = self._read_all(chrom, start, end, i_track)
        return scores if scores.ndim == 1 else minus_mean_effect(scores)

    def read_value(self, chrom: str, start: int, end: int, i_track: int, i_value: int) -> NDArray[np.float32]:
        """Return one of the values that a store has of each track and base, float32 (end - start,).

        With ``values="tism"``, that is TISM of an alternative base, in A, C, G, T order, 0 where it is the
        reference; with "mean+sd", it is mean TISM (0), or its standard deviation over models (1). NaN where
        there is no score.

        Raises
        ------
        StoreError
            If an object of the store is damaged.
        """
        if chrom not in self.plan.wanted:
            return np.full(end - start, np.nan, dtype=np.float32)
        return self._read(chrom, start, end, (i_track, i_value))

    def read_channels(self, chrom: str, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return TISM of all four bases, float32 (4, end - start), of a store with ``values="tism"``.

        As `read_value`, whose errors this method shares, in A, C, G, T order.
        """
        return self._read_all(chrom, start, end, i_track)

    def read_block(self, block: Block) -> NDArray[np.float32]:
        """Return all that is stored of a block, as `publish_block` took it.

        Raises
        ------
        StoreError
            If an object of the store is damaged.
        """
        return self._read(block.chrom, block.start, block.end, slice(None))

    def _read_all(self, chrom: str, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return all values of one track, float32 (end - start,), or (values, end - start)."""
        if chrom not in self.plan.wanted:
            return np.full((*self._values, end - start), np.nan, dtype=np.float32)
        return self._read(chrom, start, end, i_track)

    def _read(
        self, chrom: str, start: int, end: int, i_track: int | slice | tuple[int, int]
    ) -> NDArray[np.float32]:
        array, first = self.plan.array_of(chrom)
        leading = i_track if isinstance(i_track, tuple) else (i_track,)
        try:
            with self.folder.explained(self._nodes[self._i_array[array]]):
                if array == chrom:
                    return np.asarray(self._array(array)[*leading, ..., start:end], dtype=np.float32)
                return self._read_packed(leading, first + start, first + end)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"{self.path} is damaged at {chrom}:{start + 1:,}-{end:,} ({error}); run `tism-scan verify`, "
                "then the same `tism-scan run` again"
            ) from None

    def _read_packed(self, leading: tuple[int | slice, ...], start: int, end: int) -> NDArray[np.float32]:
        """Return a piece of the pack; short chroms are read one after the other, and share blocks."""
        block_bp = self.plan.array_block_bp(PACK)
        pieces = []
        for i_block in range(start // block_bp, -(-end // block_bp)):
            place = (*leading, i_block) if slice(None) not in leading else None
            held = self._held_of_pack
            if place is None or held is None or held[0] != place:
                values = self._array(PACK)[*leading, ..., i_block * block_bp : (i_block + 1) * block_bp]
                held = place, np.asarray(values, dtype=np.float32)
                self._held_of_pack = held if place is not None else None
            here = slice(max(start - i_block * block_bp, 0), end - i_block * block_bp)
            pieces.append(held[1][..., here])
        return np.concatenate(pieces, axis=-1)

    def _interval(self, region: str | Interval) -> Interval:
        """Return a region as an interval on the genome."""
        if isinstance(region, str):
            return parse_region(region, self.plan.chroms)
        return parse_region(str(region), self.plan.chroms)

    def _i_tracks(self, track: TrackChoice) -> list[int]:
        """Return the positions of the tracks that a user names."""
        return named_tracks(self.plan.scoring.tracks, track)

    @property
    def _values(self) -> tuple[int, ...]:
        """Return the lengths of the axes between track and position."""
        axis = self.plan.scoring.axis
        return (len(axis[1]),) if axis else ()

    def _array(self, name: str) -> "zarr.Array[Any]":
        """Return the array of a chrom, or the pack, which fits the plan."""
        if name not in self._arrays:
            if self._group is None:
                self._group = opened_group(self.folder)
            array = self._group[self._nodes[self._i_array[name]]]
            if not isinstance(array, zarr.Array):
                raise StoreError(f"{self.path} is damaged: {name} is no array in it; restore its zarr.json")
            if not fits_plan(array, self.plan, name):
                raise StoreError(
                    f"{self.path} is damaged: the metadata of {name} are not those of its plan; run "
                    "`tism-scan verify`, which repairs them"
                )
            self._arrays[name] = array
        return self._arrays[name]


def named_tracks(tracks: Sequence[Track], track: TrackChoice) -> list[int]:
    """Return the positions of the tracks that a user names.

    Raises
    ------
    TrackError
        If a name fits no track, or one name fits several.
    """
    chosen = choose_tracks(tracks, track)
    if len(chosen) > 1 and is_one(track):
        names = ", ".join(repr(tracks[i].key) for i in chosen[:5])
        raise TrackError(
            f"{track!r} fits {len(chosen):,} tracks ({names}); expected one; give an index, or a list "
            f"such as [{track!r}] for all of them"
        )
    return chosen


def opened_group(folder: Folder) -> zarr.Group:
    """Return the Zarr group of a folder, for reading."""
    source: LocalStore | ObjectStore[Any]  # not generic before zarr 3.1.4
    if isinstance(folder, ObjectFolder):
        source = ObjectStore(folder.client, read_only=True)
    else:
        source = LocalStore(Path(str(folder.place)), read_only=True)
    return zarr.open_group(source, mode="r")
