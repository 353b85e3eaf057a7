"""One machine of several: sends its portion of each run that the head asks for.

It runs that portion as a run of its own, with sending processes of this machine, and reads and
judges their replies here: what goes to the head are rows and the stamps of tokens, not replies.
Where the head is gone, it stops loading the server at once.
"""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import Connection as Pipe

from ...crew.runner import run_plan
from ...crew.started import started_by
from ...crew.watch import Watch
from ...crew.worker import FROZEN_S, RunError
from ...errors import BenchError
from ...send.outbox import Broke, Outbox, in_words
from ..kept.ended import Ended
from ..kept.keeper import Keeper
from ..meeting.sockets import cut
from ..messages import Fetch, Forget, Idle, Kind, Leaving, LetGo, Serve
from .orders import Orders
from .portion import Portion

POLL_S = 0.5
LAST_WORD_S = 2.0  # to say why it goes, to a head that was suspended


def _nothing(*_: object) -> None:
    """Do nothing: the head is told by other means."""


def serve_run(order: Serve, orders: Pipe, outbox: Outbox, keeper: Keeper) -> Orders:
    """Send this machine's portion of a run, and tell all of it; return what was asked meanwhile."""
    plan = order.plan
    asked = Orders(orders, plan.run_id)
    ended = Ended(plan, keeper, outbox.put, rows_stay=order.rows_stay)
    portion = Portion(plan, asked, outbox, ended)
    watch = Watch(portion.connected, _nothing, portion.look, asked, float("inf"), above=portion)
    try:
        with asked.answered():
            run_plan(plan, ended, started_by(order.workers), watch)
    except (RunError, OSError) as e:
        outbox.put(Broke(in_words(e)))
    except KeyboardInterrupt:  # before anything was sent
        pass
    outbox.put(Leaving(asked.leaving) if asked.leaving else Idle(plan.run_id))
    return asked


def serve(pipes: dict[Kind, Pipe], keeper: Keeper) -> None:
    """Send this machine's portion of each run, until the head lets it go.

    Raises BenchError where the head is lost, KeyboardInterrupt where a signal came.
    """
    threading.Thread(target=_listen_to_head, args=(pipes,), daemon=True).start()
    outbox = Outbox(pipes["results"])
    try:
        while not isinstance(order := pipes["orders"].recv(), LetGo):
            if isinstance(order, Serve):  # else it was for a run that is over
                asked = serve_run(order, pipes["orders"], outbox, keeper)
                asked.check()
                if asked.gone:
                    raise BenchError("bench.py was lost in the middle of a run, which was ended")
            elif isinstance(order, Fetch):
                for batch in keeper.told(order):
                    outbox.put(batch)
            elif isinstance(order, Forget):
                keeper.forget(order)
    except (EOFError, OSError) as e:
        raise BenchError("bench.py was lost") from e
    finally:
        outbox.close()


def _listen_to_head(pipes: dict[Kind, Pipe]) -> None:
    """Tell this machine's clock whenever the head asks for it: once a second, as a sign of life.

    Where that stops, all connections are cut: a pulled cable ends none. The one that a last word
    can go by is the last. Before the head has asked for the first time it is still waiting for
    other machines.
    """
    clock, silent_s = pipes["clock"], float("-inf")
    try:
        while silent_s <= FROZEN_S:
            if clock.poll(POLL_S):
                number = clock.recv()
                clock.send((number, time.perf_counter_ns()))
                silent_s = 0.0
            else:  # not by a clock: suspended itself, this machine has heard nobody
                silent_s += POLL_S
    except (EOFError, OSError):
        time.sleep(POLL_S)  # the head's last word is on another connection, and may come later
    cut(pipes["orders"])  # which ends the portion that is under way
    cut(clock)
    time.sleep(LAST_WORD_S)
    cut(pipes["results"])
