import contextlib
import threading

from tism_scan.scan.worker import Publishing


def test_block_is_published_unless_it_was_abandoned():
    publishing = Publishing()
    publishing.abandon("b")
    with publishing.of("a") as may_publish_a, publishing.of("b") as may_publish_b:
        assert may_publish_a
        assert not may_publish_b


def test_block_that_is_given_again_is_published():
    publishing = Publishing()
    publishing.abandon("a")
    with publishing.of("a"):
        pass
    with publishing.of("a") as may_publish:
        assert may_publish


def test_abandoning_waits_for_the_end_of_a_publication():
    publishing = Publishing()
    is_abandoned = threading.Event()

    def abandon():
        publishing.abandon("a")
        is_abandoned.set()

    with publishing.of("a"), publishing.of("b"):
        thread = threading.Thread(target=abandon)
        thread.start()
        assert not is_abandoned.wait(0.2)
    assert is_abandoned.wait(5)
    thread.join()


def test_publication_that_fails_is_over_too():
    publishing = Publishing()
    with contextlib.suppress(OSError), publishing.of("a"):
        raise OSError
    publishing.abandon("a")  # returns at once
