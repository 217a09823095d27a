"""The kinds of boards of this suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_jumpstarter import Board

if TYPE_CHECKING:
    from jumpstarter_driver_network.client import NetworkClient
    from jumpstarter_driver_opendal.client import FlasherClient
    from jumpstarter_driver_power.client import PowerClient
    from jumpstarter_driver_pyserial.client import PySerialClient


class Gateway(Board):
    """A board that is reached over its serial port."""

    power: PowerClient
    serial: PySerialClient


class Product(Gateway):
    """The board under test."""

    http: NetworkClient
    storage: FlasherClient
