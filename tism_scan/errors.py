"""The errors that a user may see, each with one clear line.

TismScanError
├── InputError            what the user gave cannot be used (exit code 2)
│   ├── GenomeError       the FASTA file or its index
│   ├── WeightsError      the model's weights
│   ├── ModelError        a model that cannot be loaded, or does not say what it reads
│   ├── TrackError        a selection of tracks
│   ├── RegionError       a region, a BED file, a chrom
│   ├── PlanError         settings that contradict each other
│   ├── StoreError        a store that is absent, foreign, or made under another plan
│   ├── ExportError       an export that cannot be written
│   ├── ClusterError      a Ray cluster that cannot be used
│   │   └── UnreachableError  no cluster answers: try again later (exit code 75)
│   └── AccessError       a URL or bucket that is not there, or may not be used
│       └── ReadOnlyError a store that may be read, and not written
├── LeaseError            another process is scanning into the store: try again later (exit code 75)
├── StorageFullError      no room left; the scan stopped and can be resumed (exit code 1)
├── StorageError          object storage that does not answer; the scan can be resumed (exit code 1)
└── ScanError             the scan could not go on (exit code 1)
    └── InputChangedError the genome or the weights changed while they were in use

A message says what was wrong, what was expected and what to do, with the user's own value quoted.
"""

TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h, which some systems lack: the same command may work another time


class TismScanError(Exception):
    """Any failure that is explained to the user in one line.

    Attributes
    ----------
    exit_code : int
        What the command line exits with.
    """

    exit_code = 1


class InputError(TismScanError):
    """What the user gave cannot be used."""

    exit_code = 2


class GenomeError(InputError):
    """The FASTA file or its index cannot be used."""


class WeightsError(InputError):
    """The model's weights cannot be used."""


class ModelError(InputError):
    """A model cannot be loaded, or does not say what it reads."""


class TrackError(InputError):
    """A selection of tracks cannot be used."""


class RegionError(InputError):
    """A region, a BED file or a chrom cannot be used."""


class PlanError(InputError):
    """The settings of a scan contradict each other."""


class StoreError(InputError):
    """A store is absent, is not one of ours, or was made under another plan."""


class ExportError(InputError):
    """An export cannot be written."""


class ClusterError(InputError):
    """A Ray cluster cannot be used."""


class UnreachableError(ClusterError):
    """No Ray cluster answers at an address."""

    exit_code = TRY_LATER


class AccessError(InputError):
    """A URL names nothing, or may not be used from here."""


class ReadOnlyError(AccessError):
    """A store may be read, and not written.

    Attributes
    ----------
    reason : str
        What the system or the service says of it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class LeaseError(TismScanError):
    """Another process holds the store."""

    exit_code = TRY_LATER


class StorageFullError(TismScanError):
    """The disk is full; what is published stays, and the scan can be resumed."""


class StorageError(TismScanError):
    """Object storage does not answer, or refuses; what is published stays, and the scan can be resumed."""


class ScanError(TismScanError):
    """The scan could not go on."""


class InputChangedError(ScanError):
    """The genome or the weights changed while they were in use; what was computed from them before stays."""
