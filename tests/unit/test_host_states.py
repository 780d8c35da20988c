"""What people see of the hosts while a Run goes on."""

from types import SimpleNamespace

from ingestify.cli.progress import LATE, _states
from ingestify.throttle import HostState


def state(**changed):
    about = {"host": "api.example.com", "in_flight": 3, "waiting": 7, "allowed": 16, "rate": None}
    about |= {"cooling": 0.0, "is_down": False, "requests": 10, "refused": 0, "seconds": None}
    return HostState(**(about | changed))


def test_a_host_shows_what_is_in_flight_and_how_long_it_takes():
    """
    Also what was found out about it, as far as there is something.
    """
    hosts = [state(seconds=0.0512, rate=49.5, refused=4), state(host="b", in_flight=0, cooling=9.0)]
    engine = SimpleNamespace(hosts=lambda: hosts, loop_lag=0.0)
    assert list(_states(engine)) == [
        "api.example.com: 3 of 16 in flight, 51 ms each, 7 waiting, at most 49.5/s,"
        " 4 times told to slow down",
        "b: asks to wait for 9 s, 7 waiting",
    ]


def test_a_machine_that_is_busy_is_told_of():
    """
    Then it is not the hosts that keep the Run from being faster.
    """
    engine = SimpleNamespace(hosts=list, loop_lag=2 * LATE)
    assert list(_states(engine)) == ["this machine is busy: the event loop is 40 ms late"]
