"""Audit: marked readings are sent through the whole system, and each of them is accounted for by an independent count.

`marks` makes them, `tap` listens to the table's stream, `count` reads the tables. An auditor must not share the code
that it audits: of processor.store nothing is used here but the specification of the tables.
"""
