"""
The life of a lease, and the sources that devices come from.

From a request for a device downwards:

- `sets`: sets of devices: acquired together, released together.
- `from_controller`: `ControllerSource`: devices leased from a lab controller.
- `without_lease`: `GivenSource`: a device without a lease of ours: `in_shell`, or by `direct`, over TCP.
- `acquire`: acquires the leases of a set, all of them or none; timed-out waits are not retried.
- `choice`: which exporter is requested by name: the least capable one that fits, and none that had a fault.
- `availability`: which exporters match, which are free, and who has leased the others.
- `hints`: what the lab has instead, if nothing matches.
- `lease_request`: what a role needs (`Wanted`), the request to the lab controller (`LeaseRequest`), its tags and id.
- `leases`: `Leases`: the leases of this process: created, extended, released.
- `lease`: `ManagedLease`, the base class of leases in use, and `AdoptedLease`, one that somebody else created.
- `origin`: commit, build and job of the run.
- `own_tags`: the tags that this plugin adds to leases, as long as the lab allows them.
- `own_lease`: `OwnLease`: a lease of this process from request to release.
- `exporter_hooks`: what an exporter says of itself and its hooks.
- `replaced`: exporters that are replaced after each lease by others with new names.
- `waiting`: waits until a lease is requested, until it is Ready, until its exporter is ready, until Dial succeeds.
- `patience`: how long a wait goes on while requests fail. `polling`: how often a waiting run polls.
- `keeper`: extends leases and notices when they end, in a thread. `health`: whether a device is still reachable.
- `call_watch`: asks an exporter that a waiting call hears nothing from, in a thread.
- `release`: releases leases by name, also those of a process that has died.
- `hand_over`: leases that are kept for people after a failure.
- `connect`: `Connector`: creates the `Device`, from whichever source its exporter comes.
- `identity`: whether a lease or a board that somebody else chose matches what the role needs.
- `old_peers`: what old lab controllers and exporters lack, reported once.
- `events`: `Events`: receives what happens to leases and devices.

Nothing here imports pytest.
"""

from __future__ import annotations

from pytest_jumpstarter.leasing.lease_request import LeaseRequest, Wanted

__all__ = ["LeaseRequest", "Wanted"]
