-- What is read from the log, and how far: rows and mark are written in one transaction, so each record is kept once.
--
-- No row needs a unique key: below its mark nothing is written again. From columns, schema and header every record
-- comes back as it was in the log. `*_ns` are nanoseconds since the Unix epoch.

create schema tick_log;

create table tick_log.marks (
    topic text not null,
    key text not null,
    last_offset bigint not null,
    primary key (topic, key)
);
comment on table tick_log.marks is 'Newest record of each topic and key that is in its table.';

create table tick_log.ticks (
    log_offset bigint not null,
    row bigint,
    venue text not null,
    symbol text not null,
    definition_version bigint not null,
    epoch bigint not null,
    batch bigint not null,
    ingest_seq bigint,
    event_ns bigint,
    recv_ns bigint,
    venue_seq bigint,
    kind bigint,
    flags bigint,
    side bigint,
    price bigint,
    size bigint,
    schema text,
    header bytea
);
create index ticks_by_instrument on tick_log.ticks (venue, symbol, recv_ns);
comment on table tick_log.ticks is 'Ticks, on request: prices and sizes count increments of the instrument.';
comment on column tick_log.ticks.row is 'Place in the batch; null for a record that has no rows or is not unpacked.';
comment on column tick_log.ticks.header is 'In the first row of a batch, what of it the columns do not hold.';

create table tick_log.feature_rows (
    log_offset bigint not null,
    venue text not null,
    symbol text not null,
    epoch bigint not null,
    feature_set text not null,
    step bigint not null,
    close_ns bigint not null,
    first_ingest_seq bigint not null,
    last_ingest_seq bigint not null,
    feature_values real[],
    schema text not null,
    header bytea not null
);
create index feature_rows_by_instrument on tick_log.feature_rows (venue, symbol, step);
comment on table tick_log.feature_rows is 'Rows of features, on request; NaN is missing.';

create table tick_log.journal (
    log_offset bigint not null,
    key text not null,
    epoch bigint not null,
    at_ns bigint not null,
    kind text not null,
    schema text not null,
    header bytea not null
);
create index journal_by_key on tick_log.journal (key, log_offset);
comment on table tick_log.journal is 'Entries of journals, on request, in the order of their offset along a key.';

-- Writers act as service_role; desks have no business here. They look which schema this is before they write.
grant usage on schema tick_log to service_role;
grant select, insert, update, delete on all tables in schema tick_log to service_role;
grant usage on schema supabase_migrations to service_role;
grant select on supabase_migrations.schema_migrations to service_role;
