"""
The life of a lease, and the sources that devices come from.

From a request for a device downwards:

- `sets`: sets of devices: acquired together, given back together.
- `from_controller`: `ControllerSource`: devices leased from a lab controller.
- `without_lease`: `GivenSource`: a device that somebody else gave us: inside a `jmp shell`, or by `direct`, over TCP.
- `acquire`: acquires the leases of a set, all of them or none; timed-out waits are not retried.
- `choice`: which exporter is asked for by name: the least capable that will do, and none that was at fault.
- `availability`: which exporters match, which are free, and who has leased the others.
- `hints`: what the lab has instead of what was asked for.
- `lease_request`: what is wanted (`Wanted`), what is asked of the lab controller (`LeaseRequest`), its tags and its id.
- `leases`: `Leases`: the leases of this process: made, kept alive, given back.
- `lease`: `ManagedLease`, what every lease in use has in common, and `AdoptedLease`, one that somebody else made.
- `own_lease`: `OwnLease`: a lease of this process from request to release.
- `waiting`: waits until a lease is Ready, until its exporter is, until Dial succeeds.
- `keeper`: extends leases in time and sees them end, in a thread. `health`: whether a device is still there.
- `call_watch`: asks an exporter that a call hears nothing of, in a thread.
- `release`: gives leases back by name, also those of a process that has died.
- `hand_over`: leases that are left to people after a failure.
- `connect`: `Connector`: makes the `Device`, whichever source its exporter comes from.
- `identity`: whether a lease or a board that somebody else chose is the one that was asked for.
- `old_peers`: what old lab controllers and exporters lack, said once.
- `events`: `Events`: is told what happens.

Nothing here knows pytest.
"""

from __future__ import annotations

from pytest_jumpstarter.leasing.lease_request import LeaseRequest, Wanted

__all__ = ["LeaseRequest", "Wanted"]
