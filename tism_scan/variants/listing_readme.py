"""The README beside a list of all variants: what it holds, and the commands that load it elsewhere."""

from collections.abc import Sequence

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.variants.naming import quantity_of
from tism_scan.variants.records import SIGN, Field


def readme_text(name: str, header: str, plan: ScanPlan, fields: Sequence[Field]) -> str:
    """Return the text of the README.

    Parameters
    ----------
    name : str
        The file's, such as ``variants.tsv.gz``.
    header : str
        That of the file with the lines of a VCF's header.
    plan : ScanPlan
    fields : sequence of Field
    """
    keys = [key for field in fields for key in field.keys]
    ranks, meaning, which = "No PHRED: the store was not calibrated.", "TISM, about the change", "All"
    if plan.selection is not None:
        ranks, meaning = "No PHRED: these are the scores of chosen bases.", "exact ISM, the change"
        which = f"Of the {plan.n_wanted:,} bases that were refined ({plan.selection.rule}), all"
    if any(field.background for field in fields):
        among = dict.fromkeys(field.background for field in fields)
        if len(among) > 1:
            among = dict.fromkeys(f"{field.background} ({field.id})" for field in fields)
        ranks = f"PHRED is -10 log10(rank / N) of the magnitude, among {'; '.join(among)}."
    tracks = "\n".join(f"  {field.id}  {field.name}" for field in fields)
    quantity = quantity_of(plan)
    is_table = name.endswith(".tsv.gz")
    load = _from_table(name, header, keys) if is_table else _from_vcf(name, quantity, keys)
    return f"""{which} single-base substitutions of a scan by tism-scan, with their scores.

{name} is bgzip, with an index beside it; positions count from 1.
Model {plan.model}; store {plan.digest()}.
A score is {meaning} of the {plan.scoring.output_space} if ALT replaces REF: {SIGN}.
{ranks}

Tracks:
{tracks}

{load}"""


def _from_table(name: str, header: str, keys: Sequence[str]) -> str:
    columns = ",".join(["CHROM", "POS", "REF", "ALT", *(f"INFO/{key}" for key in keys)])
    return f"""bcftools annotate (records of one ALT allele each; {header} is in this folder):

  bcftools norm -m- calls.vcf.gz | \\
    bcftools annotate -a {name} -h {header} -c {columns} -Oz -o annotated.vcf.gz

One region:

  tabix {name} chr1:1000-2000

vcfanno and VEP compare REF and ALT of VCFs only: export with --format snv-vcf for them.
"""


def _from_vcf(name: str, quantity: str, keys: Sequence[str]) -> str:
    quoted = ",".join(f'"{key}"' for key in keys)
    operations = ",".join('"self"' for _ in keys)
    return f"""VEP:

  vep -i calls.vcf.gz --cache --vcf -o annotated.vcf \\
    --custom file={name},short_name={quantity},format=vcf,type=exact,fields={"%".join(keys)}

vcfanno (a file conf.toml, then `vcfanno conf.toml calls.vcf.gz`):

  [[annotation]]
  file = "{name}"
  fields = [{quoted}]
  ops = [{operations}]

bcftools annotate:

  bcftools annotate -a {name} -c {",".join(f"INFO/{key}" for key in keys)} calls.vcf.gz \\
    -Oz -o annotated.vcf.gz
"""
