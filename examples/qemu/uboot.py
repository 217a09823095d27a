"""What the tests do with the board: switch it on and off, and type at U-Boot's prompt."""

from __future__ import annotations

import pexpect

from pytest_jumpstarter import Console, Device

PROMPT = r"[\r\n]=> "


class UBoot:
    """
    U-Boot on the serial console of a device.

    The QEMU driver's console is there while the power is on; what the board says first, nobody can have read.

    Attributes:
        banner: What the board said at its last boot before the prompt.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.banner = ""

    @property
    def _console(self) -> Console:
        return self._device.console()

    def on(self) -> None:
        """Switch the power on, and go to the prompt."""
        self._device.power.on()
        self.interrupt()

    def off(self) -> None:
        """Switch the power off; QEMU ends, and the console with it."""
        console = self._console
        self._device.power.off()
        console.expect(pexpect.EOF)

    def interrupt(self) -> None:
        """Press a key in the two seconds before U-Boot would boot on, and wait for the prompt."""
        self._console.expect("Hit any key to stop autoboot")
        self.banner = self._console.before
        self._console.send(" ")
        self._console.expect(PROMPT)

    def run(self, command: str) -> str:
        """Run one command and return what it prints."""
        self._console.sendline(command)
        self._console.expect_exact(command)  # its echo
        self._console.expect(PROMPT)
        return self._console.before.strip()

    def reset(self) -> None:
        """Reset the CPU, and go to the prompt."""
        self._console.sendline("reset")
        self.interrupt()
