-- How good market data were: what was out of the ordinary, how far each hour can be relied on, what happened to feeds.
--
-- Kinds, policies and states are lower-case names. Numbers with a name of their own are text, `name=value, ...`: for
-- people; the exact ones are in `message`.

create table market_data.anomalies (
    anomaly_id text not null,
    venue text not null,
    symbol text not null,
    at_ns bigint not null,
    kind text not null,
    policy text not null,
    score double precision not null,
    threshold double precision not null,
    evidence text not null,
    epoch bigint not null,
    ingest_seq bigint,
    message bytea not null,
    primary key (anomaly_id)
);
create index anomalies_by_instrument on market_data.anomalies (venue, symbol, at_ns);
comment on table market_data.anomalies is 'Everything out of the ordinary in market data, with what it rests on.';
comment on column market_data.anomalies.at_ns is 'Receive time at which it was noticed.';
comment on column market_data.anomalies.policy is
    'What was done: tag (the frame counts), hold (the book is not relied on for a while), drop (the frame is refused).';
comment on column market_data.anomalies.score is
    'How far out it is; from the threshold on that is an anomaly. Both in the detector''s own unit.';
comment on column market_data.anomalies.ingest_seq is 'The frame at which it was noticed; null where none came.';

create table market_data.reliability (
    venue text not null,
    symbol text not null,
    hour_ns bigint not null,
    score double precision not null,
    parts text not null,
    frames bigint not null,
    epoch bigint not null,
    from_ns bigint not null,
    to_ns bigint not null,
    message bytea not null,
    primary key (venue, symbol, hour_ns)
);
comment on table market_data.reliability is
    'How far the data of an instrument in an hour can be relied on; an hour under way is replaced as it goes on.';
comment on column market_data.reliability.hour_ns is 'Start of the hour, UTC, by receive time.';
comment on column market_data.reliability.score is '0 to 100.';
comment on column market_data.reliability.parts is 'What the score is made of: shares of 1, or seconds.';
comment on column market_data.reliability.to_ns is 'With from_ns, the receive time that was observed.';

create table market_data.feed_changes (
    change_id text not null,
    venue text not null,
    symbol text not null,
    at_ns bigint not null,
    state text not null,
    provider text not null,
    attempt bigint not null,
    detail text not null,
    epoch bigint not null,
    message bytea not null,
    primary key (change_id)
);
create index feed_changes_by_instrument on market_data.feed_changes (venue, symbol, at_ns);
comment on table market_data.feed_changes is 'What happened to the feeds of instruments: connected, silent, fallback ...';
comment on column market_data.feed_changes.provider is
    'Who gives the data now: websocket, rest, or another instrument.';
comment on column market_data.feed_changes.attempt is 'Attempts in a row; 0 where it is not about trying.';
