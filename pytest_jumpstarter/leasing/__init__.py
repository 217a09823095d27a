"""
The life of a lease, and the sources that devices come from.

- `request`: what is wanted (`Wanted`), what is asked of the lab controller (`LeaseRequest`), and lease ids.
- `tags`: what a lease tells people about its run.
- `leases`: `Leases`, those in our hands: made, kept alive, given back.
- `hold`: `Hold`, a lease of ours from request to release. `adopted`: `Adopted`, somebody else's that we only use.
- `release`: giving leases back by name, those included that a process left behind which has died.
- `keeper`: extends leases in time and sees them end, from a thread. `health`: whether a device is still there.
- `waiting`: the patience all of it shares: poll until Ready, until the exporter is ready, until Dial goes through.
- `reservation`: `Reservation`, a lease that is left to people.
- `together`: the leases of a set, all of them or none. `sets`: the sets of devices in our hands.
- `choice`: which exporter is asked for by name: the least capable that will do, and none that was at fault.
- `lacks`: what old peers lack, told once.
- `refusals`: what was waited for in vain once.
- `availability`: which exporters match, which are free, and who holds the others. `hints`: what the lab has instead.
- `identity`: whether a board that somebody else chose is the one that was asked for.
- `source`: `ControllerSource`, lease mode. `given`: exporters without a lease of ours: `shell`, inside a `jmp shell`;
  `direct`, over TCP without a lab controller. All yield a `Device`, which `connect` makes.
- `events`: `Events`, which is told what happens.

Nothing here knows pytest.
"""

from __future__ import annotations

from pytest_jumpstarter.leasing.request import LeaseRequest, Wanted

__all__ = ["LeaseRequest", "Wanted"]
