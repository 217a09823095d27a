"""
The life of a lease, and the sources that devices come from.

From a request for a device downwards:

- `sets`: the sets of devices in our hands.
- `source`: `ControllerSource`, lease mode. `given`: `GivenSource`, an exporter without a lease of ours: `shell`, inside
  a `jmp shell`; `direct`, over TCP without a lab controller.
- `together`: acquires the leases of a set, all of them or none. `refusals`: what was waited for in vain once.
- `choice`: which exporter is asked for by name: the least capable that will do, and none that was at fault.
- `leases`: `Leases`, those in our hands: made, kept alive, given back.
- `hold`: `Hold`, a lease of ours from request to release. `adopted`: `Adopted`, somebody else's that we only use.
  `held`: what both have in common.
- `waiting`: the patience all of it shares: poll until Ready, until the exporter is ready, until Dial goes through.
- `release`: giving leases back by name, those included that a process left behind which has died.
- `keeper`: extends leases in time and sees them end, from a thread. `health`: whether a device is still there.
- `connect`: `Connector`, which makes the `Device`, whichever source its exporter comes from.
- `identity`: whether a board that somebody else chose is the one that was asked for.
- `lacks`: what old peers lack, told once.
- `reservation`: `Reservation`, a lease that is left to people.
- `request`: what is wanted (`Wanted`), what is asked of the lab controller (`LeaseRequest`), and lease ids.
- `tags`: what a lease tells people about its run.
- `availability`: which exporters match, which are free, and who holds the others. `hints`: what the lab has instead.
- `events`: `Events`, which is told what happens.

Nothing here knows pytest.
"""

from __future__ import annotations

from pytest_jumpstarter.leasing.request import LeaseRequest, Wanted

__all__ = ["LeaseRequest", "Wanted"]
