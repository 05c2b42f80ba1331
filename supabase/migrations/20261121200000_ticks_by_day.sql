-- What is kept of the log becomes part of the house: ticks are market data, and all of it is kept by day.
--
-- Each row has a time, by which it finds its day. A record without rows has that of the record; of those kept so far,
-- which had none, the time of the row before, or the first there is. Row-level security is as elsewhere: desks see ticks as they see bars, and
-- nothing of features and journals.

alter table tick_log.ticks set schema partitions;
alter table tick_log.feature_rows set schema partitions;
alter table tick_log.journal set schema partitions;
drop index partitions.ticks_by_instrument, partitions.feature_rows_by_instrument, partitions.journal_by_key;

create table market_data.ticks (
    log_offset bigint not null,
    row bigint,
    venue text not null,
    symbol text not null,
    definition_version bigint not null,
    epoch bigint not null,
    batch bigint not null,
    ingest_seq bigint,
    event_ns bigint,
    recv_ns bigint not null,
    venue_seq bigint,
    kind bigint,
    flags bigint,
    side bigint,
    price bigint,
    size bigint,
    schema text,
    header bytea
) partition by range (recv_ns);
comment on table market_data.ticks is 'Ticks, on request: prices and sizes count increments of the instrument.';
comment on column market_data.ticks.row is 'Place in the batch; null for a record that has no rows or is not unpacked.';
comment on column market_data.ticks.header is 'In the first row of a batch, what of it the columns do not hold.';

create table tick_log.feature_rows (like partitions.feature_rows including comments) partition by range (close_ns);
comment on table tick_log.feature_rows is 'Rows of features, on request; NaN is missing.';

create table tick_log.journal (like partitions.journal including comments) partition by range (at_ns);
comment on table tick_log.journal is 'Entries of journals, on request, in the order of their offset along a key.';

create table partitions.ticks_default partition of market_data.ticks default;
create table partitions.feature_rows_default partition of tick_log.feature_rows default;
create table partitions.journal_default partition of tick_log.journal default;

do $$
declare
    moved record;
    day date;
begin
    for moved in select * from (values
        ('market_data.ticks'::regclass, 'partitions.ticks'::regclass, 'partitions.ticks_default'::regclass),
        ('tick_log.feature_rows', 'partitions.feature_rows', 'partitions.feature_rows_default'),
        ('tick_log.journal', 'partitions.journal', 'partitions.journal_default')
    ) as tables (parent, before, stray) loop
        execute format('alter table %s enable row level security', moved.stray);
        if moved.parent = 'market_data.ticks'::regclass then
            -- `known` counts the rows with a time up to a record without one, which so shares that of the last of them.
            insert into market_data.ticks
            select
                log_offset, row, venue, symbol, definition_version, epoch, batch, ingest_seq, event_ns,
                coalesce(
                    recv_ns, max(recv_ns) over (partition by venue, symbol, known),
                    min(recv_ns) over (partition by venue, symbol), 0
                ),
                venue_seq, kind, flags, side, price, size, schema, header
            from (
                select *, count(recv_ns) over (partition by venue, symbol order by log_offset, row) as known
                from partitions.ticks
            ) as ordered
            order by log_offset, row;
        else
            execute format('insert into %s select * from %s order by log_offset', moved.parent, moved.before);
        end if;
        execute format('drop table %s', moved.before);
        -- Whatever has a day within reason; maintenance moves the rest.
        for day in execute format(
            'select distinct ''1970-01-01''::date + (%1$I / 86400000000000)::integer as day from %2$s'
            ' where %1$I between 946684800000000000 and 4102444800000000000 order by day desc limit 400',
            partitions.time_of(moved.parent), moved.stray
        ) loop
            perform partitions.make(moved.parent, day);
        end loop;
    end loop;
end
$$;

create table tick_log.skipped (
    topic text not null,
    key text not null,
    log_offset bigint not null,
    schema text not null,
    raw bytea not null,
    primary key (topic, key, log_offset)
);
comment on table tick_log.skipped is
    'Records that marks went past though they could not be kept, until `huracan dlq replay` brings them again.';

-- Ticks come in the order of their time: an index of ranges of it costs next to nothing, and is enough without a symbol.
create index ticks_by_symbol on market_data.ticks (symbol, recv_ns);
create index ticks_by_time on market_data.ticks using brin (recv_ns);
create index feature_rows_by_instrument on tick_log.feature_rows (venue, symbol, step);
create index journal_by_key on tick_log.journal (key, log_offset);

alter table market_data.ticks enable row level security, force row level security;
alter table tick_log.feature_rows enable row level security, force row level security;
alter table tick_log.journal enable row level security, force row level security;
alter table tick_log.marks enable row level security, force row level security;
alter table tick_log.skipped enable row level security, force row level security;
revoke all on schema tick_log from public;
grant select, insert, update, delete on
    market_data.ticks, tick_log.feature_rows, tick_log.journal, tick_log.skipped
to service_role;
grant select on market_data.ticks to authenticated;
create policy signed_in on market_data.ticks for select to authenticated
using ((select auth.uid()) is not null);
