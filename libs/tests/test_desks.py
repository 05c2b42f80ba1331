"""Desks on one database: each sees what is its own, and reads across to another's in no way that SQL has."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from google.protobuf.message import Message

from huracan.contracts.context import Context, ContextRef
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import AccountState, Fill, Order, Position, Side
from huracan.contracts.market import Bar, InstrumentId
from huracan.contracts.opinion import Opinion
from huracan.embedded import binaries
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import running
from huracan.errors import BadInput
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.query import TABLE_NAMES, Identity, become, desk, page

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ALICE, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
NOBODY = "00000000-0000-4000-8000-00000000000c"
"""Signed in, and entitled to nothing."""
OF = {ALICE: ("alpha", "trend"), BOB: ("beta", "carry")}
"""Account and strategy of each desk."""
BTC = InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1)
DAY_NS = 86_400_000_000_000
AT_NS = 1_772_375_400_000_000_000
"""2026-03-01 14:30:00 UTC."""

OWN = {
    "trading.accounts": "account",
    "trading.orders": "account",
    "trading.fills": "account",
    "trading.positions": "account",
    "trading.daily_pnl": "account",
    "moe_analysis.decisions": "strategy",
    "moe_analysis.lineage": "strategy",
    "desks.account_owners": "account",
    "desks.strategy_entitlements": "strategy",
}
"""What belongs to somebody, and the column that says to whom."""
SHARED = ("moe_analysis.expert_responses", "moe_analysis.contexts", "market_data.underlying_ohlc")
"""What desks see alike, once they are somebody."""
HIDDEN = ("tick_log.journal", "usage_stats.orchestrator_stats", "system_health.alerts", "system_health.uptime_logs")
"""What no desk sees."""
SCHEMAS = "'market_data', 'moe_analysis', 'trading', 'usage_stats', 'system_health', 'desks', 'partitions', 'tick_log'"


def _packaged(install: str) -> Path | None:
    found = binaries._packaged_postgres()
    return next((path for path in found if path.parent.name == install and path.is_dir()), None)


VERSIONS: dict[str, Path | None] = {
    "18": _packaged("pginstall18"),
    "16": _packaged("pginstall"),
    "15": next((path for path in [Path("/usr/lib/postgresql/15/bin")] if path.is_dir()), None),
}
"""Servers that the schema is tried on, where they are installed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server with two desks on it, asked through connections of its own loop."""

    url: str
    loop: asyncio.Runner

    def ask(
        self, statement: str, *arguments: object, user: str | None = None, role: str = "authenticated"
    ) -> list[asyncpg.Record]:
        """Return what somebody gets to see; nothing it does stays."""

        async def asked(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *arguments)

        return self.run(asked, user=user, role=role)

    def run(
        self, scenario: Callable[[Connection], Awaitable[list[asyncpg.Record]]], *, user: str | None, role: str
    ) -> list[asyncpg.Record]:
        """Run a scenario as somebody, or as the owner where the role is empty."""

        async def main() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url)
            transaction = connection.transaction()
            await transaction.start()
            try:
                if role:
                    await become(connection, Identity(role=role, claims={"sub": user} if user else {}))
                return await scenario(connection)
            finally:
                await transaction.rollback()
                await connection.close()

        return self.loop.run(main())

    def seen(self, statement: str, user: str | None) -> set[object]:
        """Return the first column of what a desk gets to see."""
        return {row[0] for row in self.ask(statement, user=user)}


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _messages() -> list[Message]:
    messages: list[Message] = [
        Bar(instrument=BTC, interval_ns=60, open_ns=AT_NS, open="1"),
        *(Context(ref=ContextRef(kind=kind, key="BTC", version=1), as_of_ns=AT_NS) for kind in ("mood", "account")),
    ]
    for number, (account, strategy) in enumerate(OF.values(), start=1):
        # A day of its own for the second change, and one that has no partition.
        for at_ns in (AT_NS, AT_NS + DAY_NS, AT_NS + 900 * DAY_NS):
            held = [Position(instrument=BTC, quantity=number)]
            messages.append(
                AccountState(account=account, epoch=1, as_of_ns=at_ns, equity="1000", fees="1", positions=held)
            )
        messages += [
            Opinion(opinion_id=_id(number), instrument=BTC, expert="flow", close_ns=AT_NS),
            Decision(
                decision_id=_id(number),
                strategy=strategy,
                instrument=BTC,
                close_ns=AT_NS,
                direction=Direction.DIRECTION_BUY,
                votes=[Vote(expert="flow", opinion_id=_id(number), weight=1.0)],
            ),
            Order(order_id=_id(number), account=account, instrument=BTC, side=Side.SIDE_BUY, created_ns=AT_NS),
            Fill(fill_id=_id(number), account=account, instrument=BTC, side=Side.SIDE_BUY, matched_ns=AT_NS, fee="1"),
        ]
    return messages


async def _fill(url: str) -> None:
    await migrate(url, migrations_directory())
    store = PostgresStore(url, 1)
    await store.maintain(AT_NS)
    await store.save(_messages())
    await store.close()
    owner = await asyncpg.connect(url)
    for user, (account, strategy) in OF.items():
        await owner.execute("insert into desks.account_owners values ($1, $2)", user, account)
        await owner.execute("insert into desks.strategy_entitlements values ($1, $2)", user, strategy)
    await owner.execute("analyze")
    await owner.close()


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, server_directory: Path) -> Iterator[Server]:
    """Run each version of the server, with two desks."""
    installed = VERSIONS[request.param]
    if installed is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as loop:
        patch.setattr(binaries, "postgres_bin", lambda: installed)
        placed = PostgresServer(directory=server_directory / f"desks-{request.param}", port=free_port())
        with running(placed.prepare()):
            loop.run(_fill(placed.url))
            yield Server(placed.url, loop)


# What is shown.


@pytest.mark.parametrize("user", OF)
@pytest.mark.parametrize("table", OWN)
def test_a_desk_sees_its_own_and_nobody_elses(server: Server, table: str, user: str) -> None:
    own = dict(zip(("account", "strategy"), OF[user], strict=True))[OWN[table]]
    assert server.seen(f"select {OWN[table]} from {table}", user) == {own}


@pytest.mark.parametrize("table", SHARED)
def test_what_markets_and_experts_say_is_shown_to_every_desk(server: Server, table: str) -> None:
    for user in OF:
        assert server.ask(f"select from {table}", user=user)


def test_whoever_is_entitled_to_nothing_sees_markets_alone(server: Server) -> None:
    shown = {table for table in (*OWN, *SHARED) if server.ask(f"select from {table}", user=NOBODY)}
    assert shown == {"market_data.underlying_ohlc"}


def test_a_context_of_a_kind_that_is_not_named_is_not_shown(server: Server) -> None:
    assert server.seen("select kind from moe_analysis.contexts", ALICE) == {"mood"}


def test_the_service_role_sees_and_saves_everything(server: Server) -> None:
    rows = server.ask("select distinct account from trading.fills", role="service_role")
    assert {row[0] for row in rows} == {"alpha", "beta"}
    store = PostgresStore(f"{server.url}?role=service_role")

    async def scenario() -> None:
        await store.open()
        assert await store.save(_messages()) == 0
        assert (await store.maintain(AT_NS))["partitions.made"] == 0
        await store.close()

    server.loop.run(scenario())


# Who is asking.


@pytest.mark.parametrize("claims", ["", "{}", '{"sub": null}', '{"sub": ""}', '{"role": "service_role"}', "[]", "7"])
def test_without_a_user_in_the_claims_nothing_is_shown(server: Server, claims: str) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
        return [row for table in (*OWN, *SHARED) for row in await connection.fetch(f"select from {table}")]

    assert server.run(scenario, user=None, role="authenticated") == []


@pytest.mark.parametrize("claims", ["{", '{"sub": "alpha"}', '{"sub": "%"}', '{"sub": {}}'])
def test_claims_that_name_no_user_are_an_error_and_no_rows(server: Server, claims: str) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
        return await connection.fetch("select from trading.fills")

    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        server.run(scenario, user=None, role="authenticated")


@pytest.mark.parametrize("user", [None, ALICE])
def test_whoever_did_not_sign_in_is_refused_everywhere(server: Server, user: str | None) -> None:
    for table in (*OWN, *SHARED, *HIDDEN):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            server.ask(f"select from {table}", user=user, role="anon")


@pytest.mark.parametrize("table", HIDDEN)
def test_what_is_about_the_platform_is_refused_to_desks(server: Server, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        server.ask(f"select from {table}", user=ALICE)


def test_who_asks_is_forgotten_with_the_transaction(server: Server) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(server.url)
        async with connection.transaction():
            await become(connection, desk(ALICE))
            assert await connection.fetchval("select auth.uid()::text") == ALICE
        assert await connection.fetchval("select current_user = session_user and auth.uid() is null") is True
        await connection.close()

    server.loop.run(scenario())


# Ways across.

ACROSS = {
    "by name": "select account from trading.fills where account = 'beta'",
    "by id": f"select account from trading.fills where fill_id = '{_id(2).hex()}'",
    "or true": "select account from trading.fills where account = 'beta' or true",
    "in a subquery": "select account from (select * from trading.fills) as f",
    "aggregate": "select max(account) from trading.fills",
    "window": "select last_value(account) over (order by account range between unbounded preceding and unbounded"
    " following) from trading.fills",
    "join": "select f.account from trading.orders as o right join trading.fills as f on true",
    "outer join to one's own": "select o.account from trading.fills as f full join trading.orders as o"
    " on o.account <> f.account",
    "lateral": "select f.account from trading.accounts as a, lateral (select * from trading.fills) as f",
    "union": "with f as materialized (select * from trading.fills) select account from f union select account from f",
    "as text": "select substring(f::text from 'beta|alpha') from trading.fills as f",
    "json": "select to_jsonb(f) ->> 'account' from trading.fills as f",
    "sample": "select account from trading.fills tablesample system (100)",
    "a day": "select account from trading.accounts where as_of_ns >= 1772375400000000000",
    "the default day": f"select account from trading.accounts where as_of_ns > {AT_NS + 800 * DAY_NS}",
    "pnl": "select account from trading.daily_pnl where account > 'alpha'",
    "owners": "select account from desks.account_owners",
    "decisions of others by lineage": "select case l.strategy when 'trend' then 'alpha' else l.strategy end from"
    " moe_analysis.lineage as l left join moe_analysis.decisions using (close_ns, decision_id)",
    "query_to_xml": "select substring(query_to_xml('select account from trading.fills', true, false, '')::text"
    " from 'beta|alpha')",
    "table_to_xml": "select substring(table_to_xml('trading.orders', true, false, '')::text from 'beta|alpha')",
    "do as others do": "select account from trading.fills where set_config('role', 'authenticated', true) is not null",
}


@pytest.mark.parametrize("statement", ACROSS.values(), ids=list(ACROSS))
def test_no_query_reads_across(server: Server, statement: str) -> None:
    with suppress(asyncpg.FeatureNotSupportedError):  # builds of the server without XML do not have that way
        assert server.seen(statement, ALICE) <= {"alpha", None}


@pytest.mark.parametrize("granted", [False, True], ids=["as it is", "after a grant too many"])
@pytest.mark.parametrize("days", ["attached", "detached", "default"])
def test_days_cannot_be_read_around_their_table(server: Server, granted: bool, days: str) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        if days == "detached":
            await connection.execute("select partitions.maintain($1, 0, 1)", AT_NS + 30 * DAY_NS)
        where = {"attached": "from_ns is not null", "default": "from_ns is null", "detached": "true"}[days]
        every = f"select partition::text from partitions.days where {where}"
        if days == "detached":
            every = (
                "select oid::regclass::text from pg_class where relkind = 'r' and not relispartition"
                " and relnamespace = 'partitions'::regnamespace"
            )
        tables = [row[0] for row in await connection.fetch(every)]
        assert len(tables) >= 7
        if granted:
            await connection.execute("grant usage on schema partitions to authenticated")
            await connection.execute("grant select on all tables in schema partitions to authenticated")
        await become(connection, desk(ALICE))
        seen = []
        for table in tables:
            if granted:
                seen += await connection.fetch(f"select from {table}")
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="schema partitions"):
                async with connection.transaction():
                    await connection.fetch(f"select from {table}")
        return seen

    assert server.run(scenario, user=None, role="") == []


def test_views_of_a_desk_show_no_more_than_the_desk_sees(server: Server) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("create temp view mine as select account from trading.fills")
        await connection.execute("create temp table copied as select account from trading.orders")
        return await connection.fetch("select account from mine union all select account from copied")

    assert {row[0] for row in server.run(scenario, user=ALICE, role="authenticated")} == {"alpha"}


def test_a_function_that_tells_what_it_is_asked_of_hears_only_of_ones_own(server: Server) -> None:
    told: list[str] = []

    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        connection.add_log_listener(lambda _, message: told.append(message.message))
        await connection.execute(
            "create function pg_temp.tell(text) returns boolean language plpgsql cost 0.0000001 as"
            " $$ begin raise notice '%', $1; return true; end $$"
        )
        for table, column in OWN.items():
            await connection.fetch(f"select from {table} where pg_temp.tell({column})")
        return []

    server.run(scenario, user=ALICE, role="authenticated")
    assert set(told) == {"alpha", "trend"}


def test_an_error_tells_nothing_of_what_is_not_shown(server: Server) -> None:
    failing = "select from trading.fills where (case account when 'beta' then 1 / (quantity - quantity) else 1 end) = 1"
    assert len(server.ask(failing, user=ALICE)) == 1
    with pytest.raises(asyncpg.DivisionByZeroError):
        server.ask(failing, user=BOB)


@pytest.mark.parametrize("table", ["trading.orders", "trading.positions", "desks.account_owners"])
def test_copying_a_table_out_copies_ones_own(server: Server, table: str) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        whole, chosen = BytesIO(), BytesIO()
        schema, name = table.split(".")
        await connection.copy_from_table(name, schema_name=schema, output=whole)
        await connection.copy_from_query(f"select * from {table}", output=chosen)
        for copied in (whole, chosen):
            assert b"alpha" in copied.getvalue()
            assert b"beta" not in copied.getvalue()
        return []

    server.run(scenario, user=ALICE, role="authenticated")


def test_a_prepared_statement_shows_each_who_runs_it_their_own(server: Server) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(server.url)
        prepared = await connection.prepare("select distinct account from trading.fills")
        nobody: set[str] = set()
        for _ in range(8):  # from the sixth time on, a plan may serve all
            for user, expected in ((ALICE, {"alpha"}), (BOB, {"beta"}), (NOBODY, nobody)):
                async with connection.transaction():
                    await become(connection, desk(user))
                    assert {row[0] for row in await prepared.fetch()} == expected
        assert {row[0] for row in await prepared.fetch()} == {"alpha", "beta"}
        await connection.close()

    server.loop.run(scenario())


def test_explaining_tells_nothing_of_what_is_not_shown(server: Server) -> None:
    for table in OWN:
        plan = server.ask(f"explain (analyze, verbose, costs off) select * from {table}", user=ALICE)
        assert not any("beta" in row[0] or "carry" in row[0] for row in plan)


def test_statistics_tell_nothing_of_what_is_not_shown(server: Server) -> None:
    statement = f"select tablename from pg_stats where schemaname in ({SCHEMAS})"
    assert len(server.ask(statement, role="")) > 100
    assert server.ask(statement, user=ALICE) == []


# Other roles, and what is not reading.

TRICKS = (
    "set role service_role",
    "set local role service_role",
    "select set_config('role', 'service_role', true)",
    "set role authenticator",
    "set role huracan",
    "set session authorization huracan",
    "alter role authenticated bypassrls",
    "grant service_role to authenticated",
    "grant select on system_health.alerts to authenticated",
    "alter table trading.fills disable row level security",
    "alter table trading.fills no force row level security",
    "create policy mine on trading.fills for select using (true)",
    "drop policy own_accounts on trading.fills",
    "create view trading.mine as select 1",
    "create table desks.mine ()",
    "create function auth.mine() returns integer language sql return 1",
    "select partitions.maintain(0, 0, 0)",
    "select partitions.in_default()",
    "select * from partitions.days",
    "begin; lock table trading.fills in access exclusive mode",
    "copy (select 1) to program 'true'",
    "copy trading.fills to '/tmp/fills'",
    "select pg_read_file('PG_VERSION')",
    "select lo_import('/etc/passwd')",
    "comment on table trading.fills is ''",
)


@pytest.fixture(scope="module")
def login(server: Server) -> str:
    """Give the URL of a user who is a desk and nothing else."""
    password = secrets.token_hex(16)

    async def make() -> None:
        owner = await asyncpg.connect(server.url)
        await owner.execute(f"create role front login noinherit password '{password}' in role authenticated")
        await owner.close()

    server.loop.run(make())
    return f"postgresql://front:{password}@{server.url.rpartition('@')[2]}"


@pytest.mark.parametrize("trick", TRICKS)
def test_a_desk_becomes_nobody_else_and_changes_nothing(server: Server, login: str, trick: str) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(login)
        await connection.execute("set role authenticated")
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(trick)
        finally:
            await connection.close()

    server.loop.run(scenario())


def test_without_its_role_a_desk_may_nothing(server: Server, login: str) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(login)
        await connection.execute("set role authenticated; reset role")
        for table in (*OWN, *SHARED):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select from {table}")
        await connection.close()

    server.loop.run(scenario())


def test_row_security_cannot_be_turned_off(server: Server) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("set local row_security = off")
        return await connection.fetch("select from trading.fills")

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="would be affected by row-level security"):
        server.run(scenario, user=ALICE, role="authenticated")


@pytest.mark.parametrize("table", [*(name for name in OWN if name != "trading.daily_pnl"), *SHARED])
def test_desks_write_nothing_not_even_what_is_their_own(server: Server, table: str) -> None:
    column = OWN.get(table, "ctid")
    statements = (
        f"insert into {table} select * from {table}",
        f"insert into {table} select * from {table} on conflict do nothing returning *",
        f"update {table} set {OWN.get(table, 'message')} = null",
        f"delete from {table}",
        f"delete from {table} returning {column}",
        f"truncate {table}",
        f"select * from {table} for update",
        f"select * from {table} for key share",
        f"create temp table pointing (like {table}); create rule r as on insert to {table} do nothing",
        f"merge into {table} as kept using (values (1)) as given (x) on true when matched then delete",
    )
    for statement in statements:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            server.run(partial(_execute, statement), user=ALICE, role="authenticated")


async def _execute(statement: str, connection: Connection) -> list[asyncpg.Record]:
    await connection.execute(statement)
    return []


# What keeps it so.


def test_every_table_is_closed_by_itself(server: Server) -> None:
    rows = server.ask(
        "select relnamespace::regnamespace::text, relname, relrowsecurity, relforcerowsecurity from pg_class"
        f" where relkind in ('r', 'p') and relnamespace::regnamespace::text in ({SCHEMAS})",
        role="",
    )
    assert len(rows) > 30
    open_ones = [tuple(row) for row in rows if not row[2] or (row[0] != "partitions" and not row[3])]
    assert open_ones == []


def test_days_that_are_made_later_are_closed_as_well(server: Server) -> None:
    async def scenario(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("select partitions.maintain($1, 0, null)", AT_NS + 20 * DAY_NS)
        return await connection.fetch(
            "select relname from pg_class where oid in (select partition from partitions.days where from_ns > $1)"
            " and relrowsecurity and relacl is null",
            AT_NS + 19 * DAY_NS,
        )

    assert len(server.run(scenario, user=None, role="")) == 10


def test_views_ask_as_whoever_reads_them_and_no_function_of_desks_is_another_users(server: Server) -> None:
    views = server.ask(
        "select oid::regclass::text from pg_class where relkind in ('v', 'm') and"
        f" relnamespace::regnamespace::text in ({SCHEMAS}, 'auth')"
        " and not coalesce(reloptions @> '{security_invoker=true}', false)"
        " and has_table_privilege('authenticated', oid, 'select')",
        role="",
    )
    functions = server.ask(
        "select oid::regprocedure::text from pg_proc where prosecdef and oid >= 16384"
        " and (has_function_privilege('authenticated', oid, 'execute')"
        " or has_function_privilege('anon', oid, 'execute'))",
        role="",
    )
    assert (views, functions) == ([], [])


def test_nothing_of_the_days_is_granted(server: Server) -> None:
    for role in ("anon", "authenticated"):
        statement = "select oid::regclass::text from pg_class where relnamespace = 'partitions'::regnamespace"
        rows = server.ask(
            f"{statement} and relkind in ('r', 'p', 'v') and has_table_privilege($1, oid, 'select')", role, role=""
        )
        assert rows == []


# Through the query side.


def test_the_query_side_answers_as_the_desk(server: Server) -> None:
    async def accounts(user: str) -> set[object]:
        found = await page(server.url, "fills", identity=desk(user))
        return {row["account"] for row in found.rows}

    assert server.loop.run(accounts(ALICE)) == {"alpha"}
    assert server.loop.run(accounts(BOB)) == {"beta"}
    assert server.loop.run(accounts(NOBODY)) == set()


def test_the_query_side_says_what_is_not_shown(server: Server) -> None:
    async def asked() -> Sequence[str]:
        refused = []
        for table in TABLE_NAMES:
            try:
                await page(server.url, table, identity=desk(ALICE))
            except BadInput as error:
                refused.append(str(error))
        return refused

    assert list(server.loop.run(asked())) == [
        f"{table} are not shown to authenticated: ask for another table"
        for table in ("orchestrator_stats", "uptime_logs", "alerts")
    ]


def test_a_login_that_may_not_become_a_desk_is_told_so(server: Server) -> None:
    password = secrets.token_hex(16)

    async def scenario() -> None:
        owner = await asyncpg.connect(server.url)
        await owner.execute(f"create role back login password '{password}' in role service_role")
        await owner.close()
        url = f"postgresql://back:{password}@{server.url.rpartition('@')[2]}"
        assert (await page(f"{url}?role=service_role", "fills")).rows
        with pytest.raises(BadInput, match="user of the database URL may not become authenticated"):
            await page(f"{url}?role=service_role", "fills", identity=desk(ALICE))

    server.loop.run(scenario())


@pytest.mark.parametrize("user", ["", "alpha", "' or true --", ALICE[:-1], f"{ALICE}0"])
def test_a_desk_that_is_no_user_is_refused_before_the_database_is(user: str) -> None:
    with pytest.raises(BadInput, match="give the UUID of its user"):
        desk(user)
