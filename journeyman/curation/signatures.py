"""MinHash signatures in bands: which texts are worth comparing with which."""

import numpy as np
import numpy.typing as npt

from journeyman.curation.base import Rows
from journeyman.curation.tokens import Words, insert, words_of

BANDS, ROWS = 16, 4
"""Of the signatures (ours): two texts with a similarity of .8 meet in a band with a chance of .9998, of .7 with .988."""
SEED = 1


def meet(rows: Rows, shingle: int) -> None:
    """Make the tables `met(position, earlier)`, pairs to be compared, and `shingles(position, runs)` of those rows."""
    database = rows.database
    database.execute("CREATE OR REPLACE TABLE bands (position BIGINT, band UTINYINT, key UBIGINT)")
    for words in words_of(database, "rows", rows.text):
        insert(database, "bands", _bands(words, shingle))
    database.execute("""
        CREATE OR REPLACE TABLE met AS
        WITH shared AS (SELECT band, key FROM bands GROUP BY band, key HAVING count(*) > 1),
        beside AS (SELECT position, min(position) OVER place AS first, lag(position) OVER place AS before
            FROM bands JOIN shared USING (band, key) WINDOW place AS (PARTITION BY band, key ORDER BY position))
        SELECT DISTINCT position, unnest([first, before]) AS earlier FROM beside WHERE before IS NOT NULL
    """)
    database.execute("DROP TABLE bands")
    database.execute("CREATE OR REPLACE TABLE shingles (position BIGINT, runs UBIGINT[])")
    asked = "(SELECT * FROM rows SEMI JOIN (SELECT position FROM met UNION SELECT earlier FROM met) USING (position))"
    for words in words_of(database, asked, rows.text):
        runs, offsets = words.runs(shingle, shorter=True)
        insert(
            database,
            "shingles",
            {"position": words.positions_B, "runs": (runs, offsets)},
            "position, list_distinct(runs)",
        )


def _bands(words: Words, shingle: int) -> dict[str, npt.NDArray]:
    """A line for each band of each text that has words."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

    runs, offsets = words.runs(shingle, shorter=True)
    digests = RMinHash.digest_matrix_from_flat_token_hashes(runs, offsets.astype(np.uint64), BANDS * ROWS, SEED)
    signatures = np.array(digests.to_rows(), dtype=np.uint64).reshape(-1, BANDS, ROWS)
    keys = np.zeros(signatures.shape[:2], dtype=np.uint64)
    for row in range(ROWS):
        keys = (keys ^ signatures[:, :, row]) * np.uint64(0x100000001B3)
    filled = np.diff(offsets) > 0
    return {
        "position": np.repeat(words.positions_B[filled], BANDS),
        "band": np.tile(np.arange(BANDS, dtype=np.uint8), int(filled.sum())),
        "key": keys[filled].ravel(),
    }
