"""Verify: roll-ups and devices' states computed anew from the stored readings, and compared with what is there.

It runs on a live table. Roll-ups lag behind the readings, so nothing is called wrong at first sight: what differs is
looked at again after a while, and only what stands unchanged is a difference. Where the latest reading is younger than
the lag, it is *pending*; where readings may have expired, the roll-up outlives them, as it should: *expired*.

plan.py       what to verify
expiry.py     what may have expired
report.py     what came of it
verifier.py   the work
"""
