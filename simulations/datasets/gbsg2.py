"""German Breast Cancer Study Group trial 2: 686 women with node-positive breast cancer, time until recurrence or death.

Schumacher et al. 1994, "Randomized 2 x 2 trial evaluating hormonal treatment and the duration of chemotherapy in
node-positive breast cancer patients", Journal of Clinical Oncology 12:2086, doi 10.1200/JCO.1994.12.10.2086. These are
the women with complete data of Sauerbrei and Royston 1999, J. R. Stat. Soc. A 162:71, doi 10.1111/1467-985X.00122.

The file lies in the Python package lifelines, which has more of survival analysis than we need: it is not imported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.data.base import RawData
from simulations.datasets.base import DataFile, Dataset, read_checked

_FILE = DataFile(
    name="gbsg2.csv",
    url="https://github.com/CamDavidsonPilon/lifelines/blob/v0.30.0/lifelines/datasets/gbsg2.csv",
    sha256="695954dbed9eaa619f9854f6c945bdccf5b21b12ea3fb46bd28797b9e8284d49",
    bytes=21819,
)


def read(folder: Path) -> RawData:
    """Return 686 rows of text cells, one a woman, under the file's names; ``cens`` is 1 after an event.

    Raises: DataError if the file is not the published one.
    """
    header, *lines = read_checked(folder, _FILE).decode("ascii").split()
    columns = zip(header.split(","), zip(*(line.split(",") for line in lines), strict=True), strict=True)
    return RawData({name: np.array(column, dtype=object) for name, column in columns})


GBSG2 = Dataset(
    name="gbsg2",
    title="German Breast Cancer Study Group 2: 686 women after surgery, time until recurrence or death",
    licence="MIT (lifelines, with which the data are distributed)",
    attribution=(
        "M. Schumacher, G. Bastert, H. Bojar, et al. for the German Breast Cancer Study Group (1994). Randomized 2 x 2"
        " trial evaluating hormonal treatment and the duration of chemotherapy in node-positive breast cancer patients."
        " Journal of Clinical Oncology 12:2086-2093. As distributed with lifelines."
    ),
    files=(_FILE,),
    read=read,
    package="lifelines/datasets",
    extra="survival-data",
)
