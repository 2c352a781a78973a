"""The attributed rows of a set of peaks, on disk or in object storage, part by part: a Zarr v3 group."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.genome.alphabet import Codes
from tism_scan.genome.peaks import PeakSet
from tism_scan.plan.parts import Part, PartsPlan
from tism_scan.plan.peak_plan import PEAKS, PeakSettings
from tism_scan.plan.tracks import TrackChoice, is_one
from tism_scan.storage.places import Place
from tism_scan.store.arrays import GROUP, is_equivalent, is_gathered
from tism_scan.store.ledger import ShardAddress
from tism_scan.store.parts import PartStore
from tism_scan.store.peak_arrays import (
    SCORES,
    SEQUENCE,
    codes_key,
    encode_codes,
    encode_rows,
    peak_objects,
    rows_key,
)
from tism_scan.store.reading import named_tracks, opened_group

TABLE = "peaks.tsv"


class PeakStore(PartStore):
    """The rows of a set of peaks, and the record of what is done.

    Make one with `of_peaks`, or open one that exists with `open`. `tism_scan.store.peak_arrays` says what the
    arrays hold.
    """

    items = PEAKS
    roots = (f"{SCORES}/c", f"{SEQUENCE}/c")

    @classmethod
    def of_peaks(
        cls,
        path: str | Place,
        plan: PartsPlan,
        peaks: PeakSet,
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
    ) -> "PeakStore":
        """Return the store of a plan: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        path, plan, provenance, overwrite, break_lock
            As for `PartStore.create`, whose errors this function shares.
        peaks : PeakSet
            Those of the plan.
        """
        inputs = [(TABLE, peaks.table())]
        return cls.create(path, plan, inputs, provenance, overwrite=overwrite, break_lock=break_lock)

    @cached_property
    def settings(self) -> PeakSettings:
        """Which numbers the rows hold."""
        return PeakSettings.of(self.plan)

    @cached_property
    def peaks(self) -> PeakSet:
        """The peaks, in the order of the rows.

        Raises
        ------
        StoreError
            If their record is missing or damaged.
        """
        try:
            peaks = PeakSet.from_table(self.read_input(TABLE))
        except ValueError:
            raise StoreError(f"the peaks of {self.path} cannot be read; restore its {TABLE}") from None
        if peaks.digest() != self.plan.options["peaks_digest"]:
            raise StoreError(f"the peaks of {self.path} are not those of its plan; restore its {TABLE}")
        return peaks

    def scores(
        self, track: TrackChoice = None, start: int = 0, end: int | None = None
    ) -> NDArray[np.float32]:
        """Return the rows of the peaks [start, end).

        Parameters
        ----------
        track : str, int, or sequence of these, optional
            As in `ScoreStore.read`; all tracks by default.
        start, end : int
            Positions in the file of peaks, 0-based, half-open; all by default.

        Returns
        -------
        float32 (n, 4, width) for one track, (n, T, 4, width) for several or all
            In A, C, G, T order, with the sign of the method; 0 at what is not A, C, G or T; NaN where a peak
            is not computed yet. Methods with one value a base have no axis of bases.

        Raises
        ------
        TrackError
            If a name fits no track, or one name fits several.
        StoreError
            If an object of the store is damaged.
        """
        end = self.plan.n_items if end is None else end
        rows = [self.scores_of(start, end, i) for i in named_tracks(self.plan.scoring.tracks, track)]
        return rows[0] if is_one(track) else np.stack(rows, axis=1)

    def scores_of(self, start: int, end: int, i_track: int) -> NDArray[np.float32]:
        """Return the rows of the peaks [start, end) of one track, by its position, as `scores`."""
        return np.asarray(self._read(SCORES, (slice(start, end), i_track)), dtype=np.float32)

    def sequence(self, start: int = 0, end: int | None = None) -> Codes:
        """Return the sequence of the peaks [start, end), uint8 (n, width): A 0, C 1, G 2, T 3, else 4.

        Raises
        ------
        StoreError
            If an object of the store is damaged.
        """
        return np.asarray(self._read(SEQUENCE, (slice(start, end),)), dtype=np.uint8)

    def publish_rows(self, part: Part, scores: NDArray[np.float32], codes: Codes, device: str = "") -> None:
        """Write the rows of a part, durably, and mark it done; to publish it again is harmless.

        Parameters
        ----------
        part : Part
        scores : float32 (n, *row_shape)
        codes : uint8 (n, width)
        device : str
            What `Ledger.note_device` returned to who computed them.

        Raises
        ------
        ValueError
            If a shape does not fit the part.
        StorageFullError
            If there is no room left; the part is not marked done then.
        """
        expected = (part.size, *self.settings.row_shape)
        if scores.shape != expected or codes.shape != (part.size, self.settings.width):
            raise ValueError(f"the rows of {part} have shape {scores.shape}, expected {expected}")
        contents = [encode_rows(self.plan, scores), encode_codes(self.plan, codes)]
        self._publish(part, contents, device)

    def objects(self, part: Part) -> list[tuple[ShardAddress, str]]:
        """Return the address and the key of each object of a part."""
        return [
            (ShardAddress(0, part.i_part, 0), rows_key(part.i_part, self.settings)),
            (ShardAddress(1, part.i_part, 0), codes_key(part.i_part)),
        ]

    def check_complete(self) -> None:
        """Raise unless every part is computed.

        Raises
        ------
        StoreError
        """
        n_pending = sum(part.size for part in self.pending(retry_failed=True))
        if n_pending:
            raise StoreError(
                f"{self.path} is not complete: {n_pending:,} of {self.plan.n_items:,} peaks still to be "
                "computed; run the same `tism-scan attribute --peaks` again, or add --allow-incomplete to "
                "have zeros there"
            )

    def is_laid_out(self) -> bool:
        """Return whether the group is there, which is written last."""
        return self.folder.get(GROUP) is not None

    def lay_out(self) -> None:
        """Write what is missing of the arrays' metadata and of the names of peaks, tracks and bases."""
        for key, content in peak_objects(self.plan, self.peaks).items():
            if self.folder.get(key) is None:
                self.folder.put(key, content)

    def consolidate(self) -> None:
        """Gather the metadata of all arrays in the group's own, once, which saves readers a listing."""
        present = self.folder.get(GROUP)
        if not is_gathered(present):
            self.folder.put(GROUP, peak_objects(self.plan, self.peaks, consolidated=True)[GROUP])

    def unsound_metadata(self) -> dict[str, bytes]:
        """Return what the plan asks for of each object of `lay_out` that is missing or damaged."""
        unsound = {}
        consolidated = is_gathered(self.folder.get(GROUP))
        for key, content in peak_objects(self.plan, self.peaks, consolidated=consolidated).items():
            present = self.folder.get(key)
            is_sound = present == content or (key.endswith(GROUP) and is_equivalent(present, content))
            if not is_sound:
                unsound[key] = content
        return unsound

    def _read(self, name: str, where: tuple[slice | int, ...]) -> NDArray[Any]:
        try:
            with self.folder.explained(name):
                array = self._group[name]
                if not isinstance(array, zarr.Array):
                    raise ValueError(f"{name} is no array")
                return np.asarray(array[where])
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"{self.path} is damaged at its {name} ({error}); run `tism-scan verify`, then the same "
                "`tism-scan attribute --peaks` again"
            ) from None

    @cached_property
    def _group(self) -> zarr.Group:
        return opened_group(self.folder)
