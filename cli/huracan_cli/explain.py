"""Why a decision was made, proved: folded again from the journal, and each opinion asked again on its window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from huracan.bus import subjects
from huracan.clock import STEP_NS
from huracan.contracts import codec
from huracan.contracts.context import Context
from huracan.contracts.decision import Decision, Direction, Vote, direction_name
from huracan.contracts.execution import Fill, Order, OrderReason, OrderState
from huracan.contracts.features import WINDOW_ROWS, FeatureRow, FeatureWindow, feature_window
from huracan.contracts.journal import JournalEntry, WindowOpened
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.errors import BadInput
from huracan.expert.engines import Library
from huracan.expert.port import Expert, Responder
from huracan.expert.respond import Versions, engine_ref, respond
from huracan.store.parquet import read_journal, read_messages, read_table
from huracan_cli.composition import BUNDLES, EXPERTS, Inputs, expert
from huracan_orchestrator.fold import Fold

LAST = "last"
"""Stands for the last decision that was not to hold."""


class ExplainedVote(BaseModel):
    """One expert's part in a decision."""

    model_config = ConfigDict(frozen=True)

    expert: str
    opinion_id: str
    weight: float
    p_down: float
    p_flat: float
    p_up: float
    reason: str | None
    engine_digest: str
    proof: str
    """Whether the expert, asked again on the rebuilt window, gives the same bytes; or why it cannot be asked."""


class Explanation(BaseModel):
    """A decision with all it rests on."""

    model_config = ConfigDict(frozen=True)

    decision_id: str
    strategy: str
    instrument: str
    epoch: int
    step: int
    close_ns: int
    direction: str
    confidence: float
    size: int
    size_increment: str
    reason: str | None
    disagreement: float
    p_down: float
    p_flat: float
    p_up: float
    ingest_seq: tuple[int, int]
    """First and last frame of the window, in the order of the gateway's epoch."""
    gateway_epoch: int
    regime: dict[str, float]
    """Probability of each regime, where the regime expert had a context."""
    contexts: list[str]
    """Context versions used, as kind/key/version."""
    votes: list[ExplainedVote]
    orders: list[str]
    config_digest: str
    feature_set_digest: str
    journal_entries: int
    """Entries of the journal folded to reach it."""
    same_bytes: bool
    """Whether the fold gives the decision byte for byte."""


@dataclass(frozen=True, slots=True)
class _Folded:
    decision: Decision
    opened: WindowOpened
    entries: int


def explain(run: Path, decision_id: str, *, library: Path | None = None) -> Explanation:
    """Return the explanation of a decision of a run, named by its id, the beginning of it, or `last`.

    `last` is the last decision that was not to hold, if there is one. `library` has the engines that were exchanged
    meanwhile; without it those of this release are looked through. Raises BadInput when the files are no run's, or
    the id names no decision or several.
    """
    decision = _find(run, decision_id)
    folded = _fold(read_journal(run, subjects.journal_key(decision.shard)), decision.decision_id)
    opinions = {row.opinion_id: row for row in read_table(run, Opinion)}
    return Explanation(
        decision_id=decision.decision_id.hex(),
        strategy=decision.strategy,
        instrument=instrument_key(decision.instrument),
        epoch=decision.epoch,
        step=decision.step,
        close_ns=decision.close_ns,
        direction=direction_name(decision.direction),
        confidence=decision.confidence,
        size=decision.size,
        size_increment=decision.size_increment,
        reason=reason_name(decision.reason) if decision.abstained else None,
        disagreement=decision.disagreement,
        p_down=decision.p_down,
        p_flat=decision.p_flat,
        p_up=decision.p_up,
        ingest_seq=(decision.first_ingest_seq, decision.last_ingest_seq),
        gateway_epoch=decision.gateway_epoch,
        regime={share.regime: share.probability for share in decision.regime_shares},
        contexts=[f"{ref.kind}/{ref.key}/{ref.version}" for ref in decision.contexts],
        votes=_votes(run, decision, folded.opened, opinions, Library(library or BUNDLES)),
        orders=_orders(run, decision, folded.opened.instrument),
        config_digest=decision.config_digest.hex(),
        feature_set_digest=decision.feature_set_digest.hex(),
        journal_entries=folded.entries,
        same_bytes=codec.encode(folded.decision) == codec.encode(decision),
    )


def _find(run: Path, decision_id: str) -> Decision:
    wanted, decisions = decision_id.lower(), read_table(run, Decision)
    if wanted == LAST and decisions:
        return max(decisions, key=lambda row: (row.direction != Direction.DIRECTION_HOLD, row.close_ns))
    found = [row for row in decisions if row.decision_id.hex().startswith(wanted)]
    if not wanted or len(found) != 1:
        raise BadInput(f"decision id was {decision_id!r}: {len(found)} decisions of {run} begin so")
    return found[0]


def _fold(journal: list[JournalEntry], decision_id: bytes) -> _Folded:
    fold, windows = Fold(), {}
    for entries, entry in enumerate(journal, start=1):
        if entry.HasField("window_opened"):
            opened = entry.window_opened
            windows[instrument_key(opened.instrument.id), opened.gateway_epoch, opened.step] = opened
        for decision in fold.apply(entry):
            if decision.decision_id == decision_id:
                key = (instrument_key(decision.instrument), decision.gateway_epoch, decision.step)
                return _Folded(decision, windows[key], entries)
    raise BadInput(f"decision {decision_id.hex()} does not follow from the journal of the run: was it cut?")


def _votes(
    run: Path, decision: Decision, opened: WindowOpened, opinions: Mapping[bytes, Opinion], library: Library
) -> list[ExplainedVote]:
    window = rebuilt(read_messages(run / "features.parquet", FeatureRow), opened)
    if codec.digest(window) != decision.window_digest:
        proofs = {
            vote.expert: "the window could not be rebuilt from the feature rows of the run" for vote in decision.votes
        }
    else:
        inputs = Inputs(definitions=[opened.instrument], first_recv_ns=0)
        asked = {name: expert(name, inputs) for name in EXPERTS}
        versions = {(row.ref.kind, row.ref.key, row.ref.version): row for row in read_table(run, Context)}
        proofs = {}
        for vote in decision.votes:
            responder = _responder(asked.get(vote.expert), vote, window, versions, library)
            proofs[vote.expert] = _ask_again(responder, vote, window, versions, opinions)
    return [_vote(vote, opinions.get(vote.opinion_id, Opinion()), proofs[vote.expert]) for vote in decision.votes]


def _vote(vote: Vote, opinion: Opinion, proof: str) -> ExplainedVote:
    return ExplainedVote(
        expert=vote.expert,
        opinion_id=vote.opinion_id.hex(),
        weight=vote.weight,
        p_down=opinion.p_down,
        p_flat=opinion.p_flat,
        p_up=opinion.p_up,
        reason=reason_name(vote.reason) if vote.reason != AbstainReason.ABSTAIN_REASON_UNSPECIFIED else None,
        engine_digest=vote.engine_digest.hex(),
        proof=proof,
    )


def _responder(
    expert: Expert | None, vote: Vote, window: FeatureWindow, versions: Versions, library: Library
) -> Responder | None:
    """Return what gave a vote: what is configured, or the bundle that was chosen; None where it is not here."""
    if expert is None or expert.responder.engine_digest == vote.engine_digest:
        return expert.responder if expert else None
    ref = engine_ref(vote.expert, window)
    chosen = versions.get((ref.kind, ref.key, ref.version)) if ref else None
    if chosen is None or expert.opened is None:
        return None
    try:
        responder = expert.opened(library.load(chosen.engine.serves.digest.hex()))
    except BadInput:
        return None
    return responder if responder.engine_digest == vote.engine_digest else None


def _ask_again(
    responder: Responder | None,
    vote: Vote,
    window: FeatureWindow,
    versions: Versions,
    opinions: Mapping[bytes, Opinion],
) -> str:
    opinion = opinions.get(vote.opinion_id)
    if opinion is None:
        return "it never answered" if not vote.opinion_id else "its opinion was not kept"
    if responder is None:
        return "this installation has another engine"
    again = respond(responder, window, versions)
    return "same bytes" if codec.encode(again) == codec.encode(opinion) else "DIFFERENT"


def rebuilt(kept: Iterable[FeatureRow], opened: WindowOpened) -> FeatureWindow:
    """Return the window rebuilt from the feature rows of the log, with NaN where a row was not kept."""
    first = opened.step - opened.valid_rows + 1
    rows = {
        row.step: row
        for row in kept
        if first <= row.step <= opened.step
        and row.epoch == opened.gateway_epoch
        and instrument_key(row.instrument) == instrument_key(opened.instrument.id)
    }
    columns = len(rows[opened.step].values) // 4 if opened.step in rows else 0
    values = np.full((WINDOW_ROWS, columns), np.nan, dtype=np.float32)
    for step, row in rows.items():
        values[WINDOW_ROWS - 1 - (opened.step - step)] = np.frombuffer(row.values, dtype="<f4")
    return feature_window(
        instrument=opened.instrument,
        epoch=opened.gateway_epoch,
        feature_set=subjects.MICRO,
        feature_set_digest=opened.feature_set_digest,
        interval_ns=STEP_NS,
        step=opened.step,
        first_step=opened.first_step,
        close_ns=opened.close_ns,
        values=values,
        valid_rows=opened.valid_rows,
        first_ingest_seq=opened.first_ingest_seq,
        last_ingest_seq=opened.last_ingest_seq,
        last_frame_ns=opened.last_frame_ns,
        book_synced=opened.book_synced,
        best_bid=opened.best_bid,
        best_ask=opened.best_ask,
        expected_contexts=list(opened.expected_contexts),
        frames_digest=opened.frames_digest,
    )


def _orders(run: Path, decision: Decision, instrument: InstrumentDefinition) -> list[str]:
    """Return what came of the decision: client order id, state, filled of wanted, and each fill as size @ price."""
    lot, tick = Decimal(instrument.size_increment), Decimal(instrument.price_increment)
    fills = [row for row in read_table(run, Fill) if row.decision_id == decision.decision_id]
    told = []
    for row in read_table(run, Order):
        if row.decision_id == decision.decision_id:
            state = OrderState.Name(row.state).removeprefix("ORDER_STATE_")
            reason = OrderReason.Name(row.reason).removeprefix("ORDER_REASON_") if row.reason else ""
            parts = [f"{fill.quantity * lot} @ {fill.price * tick}" for fill in fills if fill.order_id == row.order_id]
            done = f"{row.filled_quantity * lot} of {row.quantity * lot}"
            told.append(" ".join(filter(None, (row.client_order_id, state, reason, done, *parts))))
    return told
