"""Reads a trace with four Parquet readers and prints what each saw, one JSON object per line.

Fed by `every_parquet_reader_sees_the_same_rows_and_bytes` (tests/trace_format.rs).
"""

import collections
import hashlib
import json
import sys

import duckdb
import fastparquet
import polars
import pyarrow.parquet


def report(reader, rows):
    """Rows are (kind, data, argv, ts in nanoseconds) in the order of seq."""
    kinds, payload, argv, ts_sum = collections.Counter(), hashlib.sha256(), None, 0
    for kind, data, arguments, ts in rows:
        kinds[kind] += 1
        ts_sum += int(ts)
        for chunk in data if data is not None else []:
            payload.update(chunk)
        if argv is None and arguments is not None:
            argv = [a.decode() if isinstance(a, bytes) else a for a in arguments]
    print(json.dumps({
        "reader": reader,
        "kinds": kinds,
        "sha256": payload.hexdigest(),
        "argv": argv,
        "ts_sum": str(ts_sum),
    }))


path = sys.argv[1]

counts = dict(duckdb.sql(f"select kind, count(*) from '{path}' group by 1").fetchall())
rows = duckdb.sql(f"select kind, data, argv, epoch_ns(ts) from '{path}' order by seq").fetchall()
assert counts == collections.Counter(row[0] for row in rows), counts
report("duckdb", rows)

table = pyarrow.parquet.read_table(path).sort_by("seq")
ts = table["ts"].cast("int64").to_pylist()
report("pyarrow", zip(*(table[name].to_pylist() for name in ("kind", "data", "argv")), ts))

frame = polars.read_parquet(path).sort("seq")
ts = polars.col("ts").to_physical()
report("polars", frame.select("kind", "data", "argv", ts).iter_rows())

pandas = fastparquet.ParquetFile(path).to_pandas().sort_values("seq")
ts = pandas["ts"].astype("datetime64[ns]" if pandas["ts"].dt.tz is None else "datetime64[ns, UTC]")
report("fastparquet", zip(pandas["kind"], pandas["data"], pandas["argv"], ts.astype("int64")))
