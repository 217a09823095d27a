"""The drivers by which a bench can switch the power of a board, and what each needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerDriver:
    """
    A driver that switches power.

    Attributes:
        what: The hardware, for people.
        type: The class path of the driver; empty if the bench has no power driver.
        package: The package to install.
        questions: What must be known, by the dotted name of the option.
        options: Options that have a usual value.
    """

    what: str
    type: str = ""
    package: str = ""
    questions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_mock(self) -> bool:
        """Whether it only pretends to switch something."""
        return is_mock(self.type)


def is_mock(type_: str) -> bool:
    """Return whether a driver class only pretends: by the convention of Jumpstarter, its name says so."""
    return type_.rpartition(".")[2].startswith("Mock")


_SHELL_QUESTIONS = {
    "methods.on": "command that switches the power on",
    "methods.off": "command that switches the power off",
}

POWER_DRIVERS: Mapping[str, PowerDriver] = {
    "shell": PowerDriver(
        what="anything that two commands of this machine switch: relays, smart plugs, uhubctl",
        type="jumpstarter_driver_shell.driver.Shell",
        package="jumpstarter-driver-shell",
        questions=_SHELL_QUESTIONS,
    ),
    "http": PowerDriver(
        what="smart plugs and PDUs with an HTTP interface, such as Shelly",
        type="jumpstarter_driver_http_power.driver.HttpPower",
        package="jumpstarter-driver-http-power",
        questions={"power_on.url": "URL that switches the power on", "power_off.url": "URL that switches it off"},
    ),
    "tasmota": PowerDriver(
        what="smart plugs with Tasmota, through an MQTT broker",
        type="jumpstarter_driver_tasmota.driver.TasmotaPower",
        package="jumpstarter-driver-tasmota",
        questions={
            "host": "host of the MQTT broker",
            "cmnd_topic": "command topic, such as cmnd/plug1/POWER",
            "stat_topic": "status topic, such as stat/plug1/POWER",
        },
        options={"tls": False},
    ),
    "snmp": PowerDriver(
        what="PDUs with SNMP (the OID is a Raritan's by default)",
        type="jumpstarter_driver_snmp.driver.SNMPServer",
        package="jumpstarter-driver-snmp",
        questions={"host": "host of the PDU", "user": "SNMP user", "plug": "number of the outlet"},
    ),
    "energenie": PowerDriver(
        what="EnerGenie power strips with a network interface",
        type="jumpstarter_driver_energenie.driver.EnerGenie",
        package="jumpstarter-driver-energenie",
        questions={"host": "host of the power strip", "slot": "number of the outlet"},
    ),
    "ykush": PowerDriver(
        what="Yepkit YKUSH USB hubs, for boards with power from USB",
        type="jumpstarter_driver_yepkit.driver.Ykush",
        package="jumpstarter-driver-yepkit",
        questions={"port": "port of the hub: 1, 2 or 3"},
    ),
    "gpio": PowerDriver(
        what="a relay or transistor at a GPIO line of this machine",
        type="jumpstarter_driver_gpiod.driver.PowerSwitch",
        package="jumpstarter-driver-gpiod",
        questions={"line": "number of the GPIO line"},
        options={"device": "/dev/gpiochip0"},
    ),
    "noyito": PowerDriver(
        what="NOYITO USB relays with a serial interface",
        type="jumpstarter_driver_noyito_relay.driver.NoyitoPowerSerial",
        package="jumpstarter-driver-noyito-relay",
        questions={"port": "serial port of the relay", "channel": "number of the relay"},
    ),
    "dutlink": PowerDriver(
        what="Jumpstarter's own DUT Link board",
        type="jumpstarter_driver_dutlink.driver.DutlinkPower",
        package="jumpstarter-driver-dutlink",
    ),
    "mock": PowerDriver(
        what="a MOCK: nothing is switched; every test sees the board as it is",
        type="jumpstarter_driver_power.driver.MockPower",
        package="jumpstarter-driver-power",
    ),
    "none": PowerDriver(what="no power driver: somebody switches the board by hand"),
}
"""By the names that `--power` knows."""
