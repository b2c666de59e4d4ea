"""All workers are there, or the wait ends and says who is missing."""

import socket
import threading

import pytest

from jdl_keras.cluster import Cluster
from jdl_keras.training import meeting
from jdl_keras.training.meeting import meet


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(meeting, "PAUSE_SECONDS", 0.02)


@pytest.fixture
def addresses():
    """Three free ports of this machine."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as two:
        ports = [server.getsockname()[1] for server in (one, two)]
    return tuple(f"127.0.0.1:{port}" for port in (*ports, 9))


def meet_in_threads(addresses, indices, seconds=20.0):
    """How each of the workers ended: None or its error."""
    ends = {}

    def attend(index):
        try:
            ends[index] = meet(Cluster(addresses, index), seconds)
        except OSError as error:
            ends[index] = error

    threads = [threading.Thread(target=attend, args=(i,)) for i in indices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return ends


def test_all_workers_meet_again_and_again(addresses):
    # A run that goes on listens where the one before has listened.
    for indices in ((0, 1, 2), (2, 1, 0)):
        assert meet_in_threads(addresses, indices) == dict.fromkeys(range(3))


def test_chief_names_who_did_not_come(addresses, capsys):
    error = meet_in_threads(addresses, [0, 1], seconds=0.5)[0]
    assert isinstance(error, TimeoutError)
    assert error.filename == "worker 2 (127.0.0.1:9)"
    assert error.strerror == "did not come; start all workers"
    assert "waiting for worker 1 (" in capsys.readouterr().err


def test_worker_names_the_chief(addresses):
    error = meet_in_threads(addresses, [1], seconds=0.3)[1]
    assert isinstance(error, TimeoutError)
    assert error.filename == f"worker 0 ({addresses[0]})"


def test_worker_of_another_cluster_does_not_count(addresses):
    other = (addresses[0], "127.0.0.1:10", addresses[2])
    ends = {}

    def stranger():
        with pytest.raises(TimeoutError):
            meet(Cluster(other, 2), 0.4)

    thread = threading.Thread(target=stranger)
    thread.start()
    ends = meet_in_threads(addresses, [0, 1], seconds=0.6)
    thread.join(30)
    assert "worker 2" in ends[0].filename


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]", b"\xff" * 99]
)
def test_strangers_disturb_no_meeting(addresses, noise):
    host, port = addresses[0].split(":")
    ends = {}
    chief = threading.Thread(
        target=lambda: ends.update(meet_in_threads(addresses, [0]))
    )
    chief.start()
    for _ in range(200):
        try:
            with socket.create_connection((host, int(port)), 1) as stranger:
                stranger.sendall(noise)
            break
        except ConnectionRefusedError:
            threading.Event().wait(0.01)
    ends.update(meet_in_threads(addresses, [1, 2]))
    chief.join(30)
    assert ends == dict.fromkeys(range(3))


def test_port_that_is_taken_is_named(addresses):
    port = int(addresses[0].split(":")[1])
    with socket.create_server(("", port)):
        error = meet_in_threads(addresses, [0])[0]
    assert error.filename == addresses[0]
    assert "in use" in error.strerror
