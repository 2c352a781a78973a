"""What browsers need beside the bigWigs of an export."""

from collections.abc import Iterable
from pathlib import Path

from tism_scan.bigwig import BigWigSummary
from tism_scan.browser import track_files, write_browser_files
from tism_scan.export.aliases import read_aliases
from tism_scan.store.score_store import ScoreStore


def describe_export(
    store: ScoreStore,
    folder: str | Path,
    summaries: Iterable[BigWigSummary],
    *,
    chrom_alias: str | Path | None = None,
    channels: bool = False,
    genome_id: str | None = None,
    igv_js_file: Path | None = None,
) -> list[Path]:
    """Return the files that it writes beside what `tism_scan.export.export_bigwigs` wrote.

    Parameters
    ----------
    store : ScoreStore
    folder : str or Path
    summaries : iterable of BigWigSummary
        As `export_bigwigs` returned them.
    chrom_alias, channels
        As for `export_bigwigs`.
    genome_id, igv_js_file
        As for `tism_scan.browser.write_browser_files`.

    Raises
    ------
    InputError
        If the genome's name or the copy of igv.js cannot be used.
    ExportError
        If a file cannot be written, or the table of names cannot be read.
    """
    plan, chroms = store.plan, None
    if chrom_alias is not None:
        aliases = read_aliases(chrom_alias, plan.chroms)
        chroms = {aliases[chrom]: length for chrom, length in plan.chroms.items()}
    return write_browser_files(
        folder,
        track_files(summaries, plan.scoring.tracks),
        plan,
        store.ledger.provenance(),
        chroms=chroms,
        values="tism" if channels else "mean",
        genome_id=genome_id,
        igv_js_file=igv_js_file,
    )
