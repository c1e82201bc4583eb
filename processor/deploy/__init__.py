"""A function's code on AWS, deployed as apex deploys it, from the same files: for the day apex itself no longer runs.

The order is apex's: build hook, zip, deploy hook, clean hook; the configuration, if it differs; the code, published as
a version; the alias `current`; and no more versions kept than `retainedVersions`. It differs in this: it creates no
function (Terraform does, with its role, log group and alarms); it waits where AWS is still busy with the last update,
which apex takes for a failure; it compares the version that the alias serves, not only the unpublished one; and it
builds in a copy of the function's folder, so that nothing is left in it.

Sources: apex 1.0.0-rc4, function/function.go; AWS Lambda API Reference; AWS Lambda Developer Guide, "Lambda function
states".
"""

from __future__ import annotations

from processor.deploy.hooks import package
from processor.deploy.plan import Change, Plan, compare, differences
from processor.deploy.rollout import deploy, previous, serve

__all__ = ["Change", "Plan", "compare", "deploy", "differences", "package", "previous", "serve"]
