"""The README beside a list of all variants: what it holds, and the commands that load it elsewhere."""

from collections.abc import Sequence

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.variants.records import SIGN, Field


def readme_text(name: str, plan: ScanPlan, fields: Sequence[Field]) -> str:
    """Return the text of the README.

    Parameters
    ----------
    name : str
        The file's: ``variants.tsv.gz`` or ``variants.vcf.gz``.
    plan : ScanPlan
    fields : sequence of Field
    """
    keys = [key for field in fields for key in field.keys]
    ranks = "No PHRED: the store was not calibrated."
    if any(field.background for field in fields):
        ranks = "PHRED is -10 log10(rank / N) of the magnitude, among " + "; ".join(
            f"{field.background} ({field.id})" for field in fields
        )
    tracks = "\n".join(f"  {field.id}  {field.name}" for field in fields)
    load = _from_table(name, keys) if name.endswith(".tsv.gz") else _from_vcf(name, keys)
    return f"""All single-base substitutions of a scan by tism-scan, with their scores.

{name} is bgzip, with an index beside it; positions count from 1.
Model {plan.model}; store {plan.digest()}.
A score is TISM, about the change of the {plan.scoring.output_space} if ALT replaces REF: {SIGN}.
{ranks}

Tracks:
{tracks}

{load}"""


def _from_table(name: str, keys: Sequence[str]) -> str:
    columns = ",".join(["CHROM", "POS", "REF", "ALT", *(f"INFO/{key}" for key in keys)])
    return f"""bcftools annotate (records of one ALT allele each; header.txt is in this folder):

  bcftools norm -m- calls.vcf.gz | \\
    bcftools annotate -a {name} -h header.txt -c {columns} -Oz -o annotated.vcf.gz

One region:

  tabix {name} chr1:1000-2000

vcfanno and VEP compare REF and ALT of VCFs only: export with --format snv-vcf for them.
"""


def _from_vcf(name: str, keys: Sequence[str]) -> str:
    quoted = ",".join(f'"{key}"' for key in keys)
    operations = ",".join('"self"' for _ in keys)
    return f"""VEP:

  vep -i calls.vcf.gz --cache --vcf -o annotated.vcf \\
    --custom file={name},short_name=TISM,format=vcf,type=exact,fields={"%".join(keys)}

vcfanno (a file conf.toml, then `vcfanno conf.toml calls.vcf.gz`):

  [[annotation]]
  file = "{name}"
  fields = [{quoted}]
  ops = [{operations}]

bcftools annotate:

  bcftools annotate -a {name} -c {",".join(f"INFO/{key}" for key in keys)} calls.vcf.gz \\
    -Oz -o annotated.vcf.gz
"""
