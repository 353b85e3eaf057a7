"""Doubts about replies: without a first token, or not as they were asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..figures.facts import Facts
from ..figures.thoughts.thinking import ThinkingFigures, answered, thinking_figures
from ..records.request_record import LIMIT_ENDS
from ..records.row import Rows
from ..stats.distribution import floats
from .finding import Doubt, Severity, check


def _share_of(wrong: NDArray[np.bool_], of: Rows) -> tuple[float, str]:
    """Return how many rows are wrong, as a share and as `3 of 100 (3 %)`."""
    count = int(wrong.sum())
    share = count / len(of)
    return share, f"{count} of {len(of)} ({100 * share:.3g} %)"


def _streamed(facts: Facts) -> Rows:
    """Return the counted successes of a run that asked for streams."""
    return facts.frame.of(facts.measured & facts.streaming)


@check(
    "share of the counted successes: those without a first token are missing in TTFT and TPOT, "
    "and from one in a hundred on they can be its p99",
    suspect=0.01,
    invalid=0.05,
)
def no_first_token(facts: Facts) -> Doubt | None:
    """Streamed replies succeeded without a token that could be stamped."""
    rows = _streamed(facts)
    if not len(rows):
        return None
    share, words = _share_of(~rows.has("ttft_ms"), rows)
    return Doubt(
        f"{words} streamed replies have no first token",
        "look at the events of one (curl -N): text may come in a field that no OpenAI client "
        "reads, or a proxy made one piece of the stream",
        share,
    )


@check(
    "share of replies whose tokens can't be: more than max_tokens allows, or fewer than events "
    "that carried some. For prompts: |usage - /tokenize| / tokens, over all: rates, TPOT and "
    "lengths are only as right as usage",
    suspect=0.01,
    invalid=0.05,
    about=("pace", "all"),
)
def usage_contradicts(facts: Facts) -> Iterator[Doubt]:
    """The server's usage contradicts what was asked for, or what it sent."""
    rows = facts.frame.of(facts.measured)
    if not len(rows):
        return
    advice = "usage can't be right: report it to whoever runs the server (a gateway in between?)"
    for wrong, words in (
        (rows["completion_tokens"] > rows["max_tokens"] * facts.choices, "more than max_tokens"),
        (rows["completion_tokens"] < rows["token_events"], "fewer than events with tokens"),
    ):
        share, figures = _share_of(wrong, rows)
        yield Doubt(f"usage of {figures} replies has {words}", advice, share)
    yield from _other_prompts(rows)


def _other_prompts(rows: Rows) -> Iterator[Doubt]:
    known = rows.of(rows.has("prompt_tokens_planned") & rows.has("prompt_tokens"))
    planned, said = (floats(known[c]) for c in ("prompt_tokens_planned", "prompt_tokens"))
    if not planned.sum():
        return
    alike = np.unique(said - planned).size == 1  # as a template that /tokenize doesn't render is
    yield Doubt(
        f"prompts of {planned.mean():.1f} tokens by /tokenize have {said.mean():.1f} by usage",
        "the same for all, perhaps a chat template that /tokenize doesn't render: set "
        "prefill_tokens by usage"
        if alike
        else "prompts were cut or changed on their way, or another model counted them",
        float(np.abs(said - planned).sum() / planned.sum()),
        at_most=Severity.SUSPECT if alike else Severity.INVALID,
        about="all",
    )


@check("figures of another model are right, but not what was asked for", suspect="any reply")
def other_model(facts: Facts) -> Doubt | None:
    """Replies name a model that wasn't asked for, and isn't another name of it."""
    said = facts.server("replied_as") or {}
    asked = dict.fromkeys(p.setting("model") for p in (facts, *facts.classes.values()))
    own = {*asked, facts.server("model_root"), *(facts.server("aliases") or ())}
    others = [name for name in said if name not in own]
    if not others:
        return None
    named = ", ".join(f"{said[name]} by {name}" for name in others)
    return Doubt(
        f"replies for {', '.join(map(str, asked))}: {named}",
        "look at what stands behind this address: a gateway may send requests elsewhere",
    )


@check(
    "share of the answers in conversations: later turns have `…` in their place, so prompts are "
    "shorter than in a real conversation",
    suspect=0.01,
)
def answers_without_text(facts: Facts) -> Doubt | None:
    """Answers had no visible text, so the conversations' history is shorter than it would be."""
    rows = facts.frame.of(facts.measured & facts.frame.has("turn"))
    if not len(rows) or facts.plan("history") == "recorded":
        return None
    share, words = _share_of(rows["visible_events"] == 0, rows)
    return Doubt(
        f"{words} answers had no text but thoughts",
        "raise max_new_tokens, so that an answer follows the thoughts, or ask the model not to "
        "think (extra_body: chat_template_kwargs)",
        share,
    )


def _thinking(facts: Facts) -> ThinkingFigures | None:
    return thinking_figures(facts.frame.of(facts.measured))


@check("replies are whole, but what is called their first answer token is a thought")
def thoughts_in_content(facts: Facts) -> Doubt | None:
    """Answers begin with `<think>`: thoughts came as text, so there is no TTFA."""
    found = _thinking(facts)
    if found is None or not found.in_content:
        return None
    return Doubt(
        f"{found.in_content} of {found.of} answers have thoughts within their text",
        "serve with --reasoning-parser for this model, so that thoughts come apart",
    )


@check("TTFT then has the time of thinking in it, and ITL shares gaps among thoughts as well")
def hidden_thoughts(facts: Facts) -> Doubt | None:
    """Usage counts thoughts that the server didn't send."""
    found = _thinking(facts)
    if found is None or not found.hidden:
        return None
    return Doubt(
        f"{found.hidden} of {found.of} replies had thoughts that were not sent",
        "ask for them (extra_body: include_reasoning) to see TTFT and the time of thinking apart",
    )


@check("the share of thinking tokens, and the answers' TPOT, are of the other replies alone")
def thinking_tokens_unknown(facts: Facts) -> Doubt | None:
    """Replies had thoughts, but nothing tells how many tokens those took."""
    found = _thinking(facts)
    unknown = found.unknown - found.in_content if found else 0
    if found is None or unknown <= 0:
        return None
    return Doubt(
        f"{unknown} of {found.of} replies had thoughts without a count that can be true",
        "some parsers count none where the template opens the thought (deepseek_r1); set "
        "extra_body: {return_token_ids: true} to count each event's tokens",
    )


MANY_UNANSWERED = 0.01
CUT_ADVICE = "raise max_new_tokens, or bound the thinking (extra_body: thinking_token_budget)"
EARLY_ADVICE = (
    "no limit ended a reply that ended by itself: is the reasoning parser this model's, and can it "
    "tell where thoughts end (docs/THINKING.md)?"
)


@check(
    f"above {100 * MANY_UNANSWERED:g} % of the counted successes: they are missing in TTFA, whose "
    "p99 they could be; an objective on it counts them as missed"
)
def unanswered(facts: Facts) -> Doubt | None:
    """Replies thought to their end, and never came to an answer."""
    rows = facts.frame.of(facts.measured)
    found = thinking_figures(rows)
    if found is None or found.unanswered_share <= MANY_UNANSWERED:
        return None
    cut = int((~answered(rows) & np.isin(rows["finish_reason"], LIMIT_ENDS)).sum())
    early = found.unanswered - cut
    words = (
        f"{found.unanswered} of {found.of} replies ({100 * found.unanswered_share:.3g} %) never "
        "came to an answer"
    )
    return Doubt(
        f"{words}; {early} of these ended by themselves" if early else words,
        "; ".join([*([CUT_ADVICE] if cut else []), *([EARLY_ADVICE] if early else [])]),
    )


@check(
    "share of replies whose length isn't the one asked for: two runs then aren't the same work",
    suspect=0.01,
    invalid=0.05,
)
def length_mismatch(facts: Facts) -> Doubt | None:
    """Replies weren't as long as asked, although `ignore_eos` should make them so."""
    replies = facts.succeeded
    asked_for = facts.setting("ignore_eos") or facts.plan("history") == "recorded"
    if not asked_for or not len(replies):
        return None
    asked = replies["max_tokens"] * facts.choices
    share, words = _share_of(replies["completion_tokens"] != asked, replies)
    return Doubt(
        f"{words} replies aren't as long as asked; mean "
        f"{floats(replies['completion_tokens']).mean():.1f} tokens",
        "check that prompt and max_new_tokens together fit MAX_MODEL_LEN, and that the endpoint "
        "honours ignore_eos (on chat, gpt-oss doesn't: use endpoint: completions)",
        share,
    )


MANY = 1.05  # tokens per chunk: real vLLM has 1.02 where its API process is late now and then


@check(
    f"above {MANY:g} a gap between chunks is no longer a gap between tokens, and ITL shares it "
    "among them; all else stays right",
    about=("gaps",),
)
def multi_token_chunks(facts: Facts) -> Doubt | None:
    """The server put several tokens in a chunk, so gaps between chunks aren't token gaps."""
    events = facts.total("token_events")
    if not facts.streaming or events == 0:
        return None
    ratio = facts.total("completion_tokens") / events
    if ratio <= MANY:
        return None
    return Doubt(
        f"{ratio:.2f} tokens per chunk",
        "gaps are those of chunks: serve with --stream-interval 1 and without speculative decoding "
        "to see single tokens; if that is so already, the API server was late",
        ratio,
    )


FEWEST_ENDED = 5  # answers that ended by themselves, all of another form, accuse the server


@check(
    "whether an answer has its form is up to the model, and to max_new_tokens, which cuts it; each "
    "is a success, and counted",
    silenced_by=("form_dropped",),
)
def answers_invalid(facts: Facts) -> Iterator[Doubt]:
    """Answers haven't the form that `response_format` asked for: cut, or not valid."""
    for name, rows in _with_a_form(facts):
        wrong = rows["answer_valid"] == 0
        if wrong.any():
            cut = int((wrong & (rows["finish_reason"] == "length")).sum())
            yield Doubt(
                f"{name}{_share_of(wrong, rows)[1]} answers haven't the form that "
                f"response_format asks for, {cut} of them cut at max_new_tokens",
                "raise max_new_tokens where they are cut; else look at some (make a request by "
                "hand): strict JSON has no raw line breaks in its texts",
            )


@check(
    f"of {FEWEST_ENDED} or more answers that ended by themselves none has the form that was asked "
    "for: then nothing held the model to it, and the work was other, and cheaper, work",
    suspect="any class",
)
def form_dropped(facts: Facts) -> Iterator[Doubt]:
    """The server ignored `response_format`: no answer has the form that was asked for."""
    for name, rows in _with_a_form(facts):
        ended = rows.of(rows["finish_reason"] == "stop")
        if len(ended) >= FEWEST_ENDED and not (rows["answer_valid"] == 1).any():
            yield Doubt(
                f"{name}none of {len(ended)} answers that ended by themselves has the form that "
                "response_format asks for",
                "this server ignores it, silently: on completions a server with a reasoning parser "
                "does (use endpoint: chat), and others don't know the field",
            )


def _with_a_form(facts: Facts) -> Iterator[tuple[str, Rows]]:
    """Yield the successes that were to have a form, of each class, with its name before a colon."""
    rows = facts.succeeded
    rows = rows.of(rows.has("answer_valid"))
    for name in dict.fromkeys(rows["class"]):
        yield f"{name}: " if name else "", rows.of(rows["class"] == name)
