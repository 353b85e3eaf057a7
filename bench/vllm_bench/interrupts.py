"""Ctrl-C, SIGTERM and SIGHUP: each asks for the end, at any moment, and none is forgotten.

Mostly a signal breaks off what the script is doing, as KeyboardInterrupt. While a run has requests
under way it is only counted: the run looks several times a second, and ends with every row. A
signal that was ignored when the script began (nohup, a shell's background) stays ignored.

In an import a signal is put off until it is over: libraries in C take KeyboardInterrupt for
something else there, forget it, or die of it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.02  # after which a signal that is put off comes again
DEAF_S = 1.0  # after this long without an answer the main thread doesn't hear
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it; here for all three


class Interrupts:
    """How often a signal came, and what one does."""

    def __init__(self) -> None:
        self.asked = 0
        self._counting = False
        self._answered_s = 0.0

    def __call__(self) -> int:
        """Return how often a signal came so far."""
        return self.asked

    @contextmanager
    def answered(self) -> Iterator[Interrupts]:
        """Answer signals inside the block: each is a KeyboardInterrupt, unless they are counted."""
        before = {n: signal.getsignal(n) for n in SIGNALS}
        hearing, telling = socket.socketpair()
        telling.setblocking(False)
        woken = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._end_where_deaf, args=(hearing,), daemon=True).start()
        set_handlers(self._note)
        try:
            yield self
        finally:
            self._counting = False
            signal.set_wakeup_fd(woken)
            telling.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Inside the block a signal does no more than count."""
        before, self._counting = self._counting, True
        try:
            yield
        finally:
            self._counting = before

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Let a signal that comes inside the block raise KeyboardInterrupt after it.

        A process that begins has its place by then: what breaks Popen off leaves it to nobody.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # no signal is heard here
            return
        before = self.asked
        with self.counted():
            yield
        if self.asked > before:
            raise KeyboardInterrupt

    def count_from_now_on(self) -> None:
        """Let signals only count, until `break_off_again`."""
        self._counting = True

    def break_off_again(self) -> None:
        """Let a signal be a KeyboardInterrupt again."""
        self._counting = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: one may have come where nothing heard it."""
        if self.asked:
            raise KeyboardInterrupt

    def unless_asked(self, act: Callable[[], T]) -> T | None:
        """Return what `act` returns, while signals are counted; None: a signal broke it off."""
        try:
            try:
                self._counting = False
                return act()
            finally:
                self._counting = True
        except KeyboardInterrupt:
            return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._answered_s = time.monotonic()
        if not self._counting and _is_importing(frame):
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        self.asked += 1
        if not self._counting:
            raise KeyboardInterrupt

    def _end_where_deaf(self, hearing: socket.socket) -> None:
        """End the process where Python hears no signal: in a library's call (a name server's, say).

        While signals are counted the run ends by itself.
        """
        with hearing:
            while numbers := hearing.recv(64):
                came_s = time.monotonic()
                if set(numbers) & set(SIGNALS):
                    time.sleep(DEAF_S)
                    # One that came while this thread slept may have been answered before it woke.
                    if self._answered_s < came_s - 2 * DEAF_S and not self._counting:
                        end_at_once()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


INTERRUPTS = Interrupts()  # of this process


def set_handlers(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let all three signals be handled, except those that are ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def end_at_once(*_: object) -> None:
    """End this process, while there is nothing to lose: before its work, and after it."""
    os._exit(INTERRUPTED)


def hear_no_more() -> None:
    """Ignore them from here on, for the last steps of Python's own shutdown.

    Its handlers are taken away there, and a signal would end the process with an exit code of its
    own in place of the one that the work has.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Let processes that are started inside the block never hear the three signals.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to the whole process group: only the parent
    handles them. Here they wait until the block's end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
