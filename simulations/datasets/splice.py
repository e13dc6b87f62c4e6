"""UCI splice-junction gene sequences: 3190 stretches of 60 nucleotides of primate DNA.

In the middle of a stretch lies a donor site (``EI``, an exon ends and an intron begins), an acceptor site (``IE``), or
neither (``N``). 60 letters are ambiguous (N, D, R, S).

185 stretches are copies of others (one pair with different classes), and many come from one gene. So what must not
stand on both sides of a split is a gene with everything that is equal to a stretch of it: that is ``patient_id``.

The file is a copy of UCI's at a fixed commit, with a header line and padding spaces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from simulations.datasets.base import DataFile, Dataset, read_checked

_FILE = DataFile(
    name="splice.csv",
    url=(
        "https://raw.githubusercontent.com/seacevedo/SpliceJunctionPrediction/99f4988f2c02ef83a3417215bcd634efe018d8f1"
        "/splice.csv"
    ),
    sha256="a8e1f2f76ef4c2393bb5d072c6e94c2db919d9c319a377012b59a5567fe6f5e8",
    bytes=319048,
)


def read(folder: Path) -> RawData:
    """Return 3190 rows: ``class`` (``EI``, ``IE`` or ``N``), ``sequence`` (60 letters), and ``patient_id``: a gene.

    Raises: DataError if the file is not the published one.
    """
    lines = read_checked(folder, _FILE).decode("ascii").splitlines()[1:]
    classes, names, sequences = np.array([[cell.strip() for cell in line.split(",")] for line in lines if line]).T
    # HUMALBGC-DONOR-1017 is at position 1017 of the gene HUMALBGC.
    genes = np.array([name.rsplit("-", 2)[0] for name in names])
    return RawData({"class": classes, "sequence": sequences, "patient_id": joined(genes, sequences)}, row_names=names)


def joined(genes: NDArray[np.str_], sequences: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return which rows belong together, shape (n,): of one gene, or with equal sequences, also by way of others.

    A group is called by the first of its genes in the alphabet.
    """
    parent = {gene: gene for gene in genes.tolist()}

    def root(gene: str) -> str:
        while parent[gene] != gene:
            gene = parent[gene]
        return gene

    first: dict[str, str] = {}
    for gene, sequence in zip(genes.tolist(), sequences.tolist(), strict=True):
        one, other = sorted((root(gene), root(first.setdefault(sequence, gene))))
        parent[other] = one
    return np.array([root(gene) for gene in genes.tolist()])


SPLICE = Dataset(
    name="splice",
    title="UCI splice-junction gene sequences: 3190 stretches of 60 nucleotides, three classes",
    licence="CC BY 4.0",
    attribution=(
        "G. Towell, M. Noordewier, J. Shavlik (1991). Molecular Biology (Splice-junction Gene Sequences). UCI Machine"
        " Learning Repository, doi 10.24432/C5M888."
    ),
    files=(_FILE,),
    read=read,
)
