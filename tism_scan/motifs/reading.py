"""Files of motifs, of either kind."""

from pathlib import Path

from tism_scan.errors import InputError
from tism_scan.motifs.meme import read_meme
from tism_scan.motifs.modisco import read_patterns
from tism_scan.motifs.motif import Motif

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_motifs(path: str | Path) -> list[Motif]:
    """Return the motifs of a MEME text file, plain or gzipped, or of TF-MoDISco's h5 file.

    Raises
    ------
    InputError
        If the file cannot be read, holds no motif, or one that is at fault; the first few are shown, by the
        numbers of their lines.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            is_h5 = file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC
    except OSError as error:
        raise InputError(
            f"cannot read {str(path)!r}: {error.strerror or error}; expected MEME text, or a MoDISco h5"
        ) from None
    motifs = read_patterns(path) if is_h5 else read_meme(path)
    if not motifs:
        raise InputError(f"{str(path)!r} holds no motif; expected at least one")
    return motifs
