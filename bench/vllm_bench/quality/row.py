"""From a reply to a question to its row. Pure."""

from __future__ import annotations

from ..records.beside.answers import AnswerRow
from ..records.request_record import LIMIT_ENDS, RequestRecord
from ..records.text import masked
from .score import scored


def answer_row(
    record: RequestRecord, text: str, wanted: str, *, cut: bool, secrets: tuple[str, ...] = ()
) -> AnswerRow:
    """Return the row of a success; `cut`: its text goes on beyond what is kept."""
    found = scored(text, wanted, cut=cut or record.finish_reason in LIMIT_ENDS)
    return AnswerRow(
        request_index=record.request_index,
        prompt_id=record.prompt_id,
        right=int(found.right),
        found=None if found.found is None else masked(found.found, secrets),
        unparsed=int(found.unparsed),
        cut=int(found.cut),
        text_sha256=found.text_sha256,
        tokens=record.completion_tokens,
    )
