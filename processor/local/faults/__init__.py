"""Faults: one registry of what goes wrong with a stream, each injected under a seed, counted, and usable by name.

`registry` is the table of all of them. A fault is an injector at work in a live run (`wire`, `worker`, `answers`,
`input`, `service`: where it strikes), or a scene under a virtual clock (`scenes`) where no live run can have it: the
retention's 24 hours, say. `chaos` puts injectors between the parts of a System; `oracle` judges what came of it.
"""
