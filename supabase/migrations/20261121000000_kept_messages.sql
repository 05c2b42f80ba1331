-- What Huracan keeps: every message once under its id, in columns for people and as the bytes it had.
--
-- Ids are text: the hexadecimal that logs, Parquet files and `huracan explain` show can be pasted into a query and
-- joined on. The exact bytes, ids among them, are in `message`. `*_ns` are nanoseconds since the Unix epoch.
-- Sizes and prices of orders are counts of the instrument's increments. Decimals are numeric, null where a message
-- has none. Nothing refers to anything by foreign key: messages arrive in any order, and opinions by best effort.

create schema market_data;
create schema moe_analysis;
create schema trading;

create table market_data.underlying_ohlc (
    venue text not null,
    symbol text not null,
    interval_ns bigint not null,
    open_ns bigint not null,
    open numeric,
    high numeric,
    low numeric,
    close numeric,
    volume numeric,
    trades bigint not null,
    partial boolean not null,
    message bytea not null,
    primary key (venue, symbol, interval_ns, open_ns)
);
comment on table market_data.underlying_ohlc is
    'Bars of trades; prices and volume in units of the instrument, not in increments.';

create table moe_analysis.decisions (
    decision_id text not null,
    strategy text not null,
    venue text not null,
    symbol text not null,
    epoch bigint not null,
    step bigint not null,
    close_ns bigint not null,
    direction text not null,
    confidence double precision not null,
    size bigint not null,
    abstained boolean not null,
    reason text,
    valid_until_ns bigint not null,
    p_down double precision not null,
    p_flat double precision not null,
    p_up double precision not null,
    disagreement double precision not null,
    first_ingest_seq bigint not null,
    last_ingest_seq bigint not null,
    message bytea not null,
    primary key (decision_id)
);
create index decisions_by_instrument on moe_analysis.decisions (venue, symbol, step);
comment on table moe_analysis.decisions is 'One decision per strategy, instrument and step.';

create table moe_analysis.expert_responses (
    opinion_id text not null,
    expert text not null,
    venue text not null,
    symbol text not null,
    epoch bigint not null,
    step bigint not null,
    close_ns bigint not null,
    p_down double precision not null,
    p_flat double precision not null,
    p_up double precision not null,
    confidence double precision not null,
    expected_move_bps double precision,
    abstained boolean not null,
    reason text,
    valid_until_ns bigint not null,
    engine_digest text not null,
    message bytea not null,
    primary key (opinion_id)
);
create index expert_responses_by_instrument on moe_analysis.expert_responses (venue, symbol, step);
comment on table moe_analysis.expert_responses is
    'What an expert thought of one window; confidence and probabilities in [0, 1].';

create table moe_analysis.contexts (
    kind text not null,
    key text not null,
    version bigint not null,
    epoch bigint not null,
    as_of_ns bigint not null,
    effective_from_ns bigint not null,
    valid_until_ns bigint not null,
    payload_digest text not null,
    engine_digest text not null,
    message bytea not null,
    primary key (kind, key, version)
);
comment on table moe_analysis.contexts is 'Every version of slow state that experts and decisions name.';

create table moe_analysis.lineage (
    decision_id text not null,
    position bigint not null,
    kind text not null check (kind in ('opinion', 'context')),
    opinion_id text,
    weight double precision,
    context_kind text,
    context_key text,
    context_version bigint,
    primary key (decision_id, position)
);
comment on table moe_analysis.lineage is
    'What a decision rests on: opinions with the weights of their votes, then versions of contexts.';

create table trading.accounts (
    account text not null,
    epoch bigint not null,
    as_of_ns bigint not null,
    cash numeric,
    fees numeric,
    equity numeric,
    peak_equity numeric,
    risk_state text not null,
    message bytea not null,
    primary key (account, epoch, as_of_ns)
);
comment on table trading.accounts is 'An account after each of its changes.';

create table trading.orders (
    order_id text not null,
    client_order_id text not null,
    decision_id text not null,
    account text not null,
    venue text not null,
    symbol text not null,
    side text not null,
    quantity bigint not null,
    limit_price bigint not null,
    state text not null,
    reason text,
    filled_quantity bigint not null,
    created_ns bigint not null,
    updated_ns bigint not null,
    valid_until_ns bigint not null,
    revision bigint not null,
    message bytea not null,
    primary key (order_id)
);
create index orders_by_instrument on trading.orders (venue, symbol, created_ns);
comment on table trading.orders is 'The latest revision of every order.';

create table trading.fills (
    fill_id text not null,
    order_id text not null,
    decision_id text not null,
    account text not null,
    venue text not null,
    symbol text not null,
    side text not null,
    quantity bigint not null,
    price bigint not null,
    fee numeric,
    matched_ns bigint not null,
    received_ns bigint not null,
    message bytea not null,
    primary key (fill_id)
);
create index fills_by_instrument on trading.fills (venue, symbol, matched_ns);
comment on table trading.fills is 'Every execution of an order.';
