"""A desk whose listings are all shown by one kind of board, and what it is asked of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from huracan.sim.told import Listing
from huracan.sim.venue.board import Answer, Board, Desk, Query, Route
from huracan.sim.venue.market import Market

B = TypeVar("B", bound=Board)


class DeskOf(Desk, Generic[B]):
    """A venue with one kind of board."""

    unlisted: Answer
    """To a request about what it does not list."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, B] = {}
        """By the venue's symbol."""

    @abstractmethod
    def show(self, listing: Listing, market: Market) -> B:
        """Return a board of a listing."""

    @abstractmethod
    def board_of(self, query: Query) -> B | None:
        """Return the board that a query names; None when it names none."""

    def add(self, listing: Listing, market: Market) -> Board:
        """Add a listing."""
        return self.put(self.show(listing, market))

    def put(self, board: B) -> B:
        """Add a board."""
        self.boards[board.symbol] = self.shown[board.symbol] = board
        return board

    def wanted(self, symbol: str | None) -> list[B]:
        """Return the board of a symbol, if it is listed; those of all listings for None."""
        return [board for listed, board in self.shown.items() if symbol in {None, listed}]

    def of_board(self, answer: Callable[[B, Query], Answer]) -> Route:
        """Return the route that answers of the board which a query names, or that there is none."""

        def route(query: Query) -> Answer:
            board = self.board_of(query)
            return self.unlisted if board is None else answer(board, query)

        return route
