"""Ask the data: which devices, what of them, and as what: rows, Arrow, Parquet or SQL.

choice.py    which devices are meant
query.py     readings and summaries from the tables, many devices in parallel
columns.py   the same as Arrow tables
export.py    the same as Parquet files, by day, resumable; spool.py holds what a scan brings
way.py       by a scan, or by queries: what takes fewer read units
sql.py       SQL over such files
store.py     all of it for Python programs: `processor.Store`
"""
