"""What the channels of an input of multi-contrast restoration are: an MDME acquisition, or any sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medrestore.checks import InputError, require_in_range, require_in_set, require_known_keys
from medrestore.operators.mdme import MdmeProtocol

__all__ = ["COMPONENTS", "Acquisition", "make_acquisition"]

COMPONENTS = ("phase_corrected", "magnitude", "any")
"""What the values of an acquisition may be."""


@dataclass(frozen=True)
class Acquisition:
    """What the channels of an input are. Made by :func:`make_acquisition`.

    Parameters
    ----------
    component
        ``phase_corrected``: signed real channels of an MDME acquisition; ``magnitude``: its magnitudes;
        ``any``: images of other sequences, each on its own scale.
    channels
        Number C of channels.
    saturation_delays_ms, echo_times_ms
        Of the MDME acquisition, whose channels are ordered by delay, then by echo; None for ``any``.
    reference
        Channel of the longest delay and the first echo, the brightest; the first one for ``any``.
    names
        Of the channels.
    """

    component: str
    channels: int
    saturation_delays_ms: tuple[float, ...] | None
    echo_times_ms: tuple[float, ...] | None
    reference: int
    names: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The number of channels in words.

        >>> make_acquisition().expected
        '8 = 4 delays x 2 echoes'
        """
        if self.saturation_delays_ms is None or self.echo_times_ms is None:
            return str(self.channels)
        delays, echoes = len(self.saturation_delays_ms), len(self.echo_times_ms)
        return f"{self.channels} = {delays} delays x {echoes} echoes"

    def as_plain(self) -> dict[str, Any]:
        """Return plain values, as ``model.pt`` keeps them; :meth:`from_plain` turns them back."""
        plain = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Acquisition:
        """Return the acquisition that :meth:`as_plain` described.

        Raises
        ------
        InputError
            When a value is missing, unknown, or not one that :func:`make_acquisition` would take.
        """
        known = {name: plain.get(name) for name in cls.__dataclass_fields__}
        require_known_keys("acquisition", plain, known)
        if known["component"] is None:
            raise InputError(f"acquisition must say its component, got {dict(plain)}")
        return make_acquisition(
            component=known["component"],
            saturation_delays_ms=known["saturation_delays_ms"],
            echo_times_ms=known["echo_times_ms"],
            channels=known["channels"],
        )


def make_acquisition(
    *,
    component: str = "phase_corrected",
    saturation_delays_ms: Sequence[float] | None = None,
    echo_times_ms: Sequence[float] | None = None,
    channels: int | None = None,
) -> Acquisition:
    """Describe the channels of an input.

    Parameters
    ----------
    component
        One of :data:`COMPONENTS`.
    saturation_delays_ms, echo_times_ms
        Of an MDME acquisition, ms; those of :class:`~medrestore.operators.mdme.MdmeProtocol` when not given.
        Not for ``any``.
    channels
        Number of channels: for ``any``; follows from delays and echoes otherwise.

    Raises
    ------
    InputError
        When the component is unknown, a time is not positive, or numbers are missing or contradict.

    Examples
    --------
    >>> make_acquisition(saturation_delays_ms=[150, 2000], echo_times_ms=[20, 90]).names
    ('td150_te20', 'td150_te90', 'td2000_te20', 'td2000_te90')
    """
    require_in_set("component", component, COMPONENTS)
    if component == "any":
        if saturation_delays_ms is not None or echo_times_ms is not None:
            raise InputError(
                "saturation delays and echo times are those of an MDME acquisition, not of 'any'"
            )
        if channels is None:
            raise InputError("component 'any' needs the number of channels")
        require_in_range("channels", channels, 1, 1000)
        names = tuple(f"channel_{index}" for index in range(int(channels)))
        return Acquisition(component, int(channels), None, None, 0, names)
    standard = MdmeProtocol()
    delays = tuple(standard.saturation_delays_ms if saturation_delays_ms is None else saturation_delays_ms)
    echoes = tuple(standard.echo_times_ms if echo_times_ms is None else echo_times_ms)
    # The repetition time plays no part here: any that all readouts fit into.
    protocol = MdmeProtocol(delays, echoes, tr_ms=max([*delays, 0]) + max([*echoes, 0]) + 1)
    if channels is not None and channels != len(protocol.channels):
        raise InputError(
            f"channels must be {len(delays)} delays x {len(echoes)} echoes = {len(protocol.channels)}, "
            f"got {channels}"
        )
    return Acquisition(
        component=component,
        channels=len(protocol.channels),
        saturation_delays_ms=protocol.saturation_delays_ms,
        echo_times_ms=protocol.echo_times_ms,
        reference=protocol.reference,
        names=tuple(f"td{delay:g}_te{echo:g}" for delay, echo in protocol.channels),
    )
