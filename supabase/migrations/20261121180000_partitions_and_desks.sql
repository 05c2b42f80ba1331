-- Days of their own for what grows, desks that see what is theirs, and what instruments and services are.
--
-- Partitions. Whatever grows with the market is kept by day, UTC, of the time that it is about. The time is a function of
-- the id, so a primary key of both keeps an id once; it leads, because rows come in its order. Not by day are orders, of
-- which each has one row that changes; contexts, which are looked up by version and may hold for longer than any
-- retention; and what is a row an hour or less. A DEFAULT partition takes the rows of days that have none.
--
-- Days live in the schema `partitions`, where desks may read nothing: what row-level security says of a table holds for
-- reading through it, not for its partitions. Each day is closed by itself as well.
--
-- Desks. Roles and `auth` functions are those of Supabase, and are made only where they are missing. Whoever saves to
-- tables, and is neither a superuser nor has BYPASSRLS, does so as service_role: `?role=service_role` in the URL.

create schema partitions;
comment on schema partitions is 'Days of partitioned tables; days that were detached wait here to be archived.';

create view partitions.days as
select
    parent.oid::regclass as parent,
    child.oid::regclass as partition,
    substring(pg_get_expr(child.relpartbound, child.oid) from 'FROM \(''(-?\d+)''\)')::bigint as from_ns,
    substring(pg_get_expr(child.relpartbound, child.oid) from 'TO \(''(-?\d+)''\)')::bigint as to_ns
from pg_inherits
join pg_class as parent on parent.oid = inhparent
join pg_class as child on child.oid = inhrelid
where parent.relkind = 'p' and child.relnamespace = 'partitions'::regnamespace;
comment on view partitions.days is
    'Every partition with the first time that is in it and the first after; null of a DEFAULT one.';

create function partitions.time_of(parent regclass) returns text
language sql stable
return substring(pg_get_partkeydef(parent) from '^RANGE \((\w+)\)$');
comment on function partitions.time_of is 'The column by which a table is partitioned.';

create function partitions.name_of(parent regclass, day date) returns text
language sql stable
return (select format('partitions.%I', relname || to_char(day, '_YYYYMMDD')) from pg_class where oid = parent);
comment on function partitions.name_of is 'The name that a day of a table has.';

create function partitions.make(parent regclass, day date) returns regclass
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    from_ns constant bigint := extract(epoch from day)::bigint * 1000000000;
    to_ns constant bigint := from_ns + 86400000000000;
    at constant text := partitions.time_of(parent);
    stray constant regclass := (
        select days.partition from partitions.days where days.parent = make.parent and days.from_ns is null
    );
    made constant text := partitions.name_of(parent, day);
    misplaced boolean;
begin
    -- Attached rather than made in place, which would lock the table against its readers.
    execute format('create table %s (like %s including constraints)', made, parent);
    execute format('alter table %s enable row level security', made);
    execute format('select exists (select from %s where %I >= $1 and %I < $2)', stray, at, at)
        into misplaced using from_ns, to_ns;
    if misplaced then
        execute format('lock table %s in access exclusive mode', stray);
        execute format(
            'with moved as (delete from %s where %I >= $1 and %I < $2 returning *) insert into %s select * from moved',
            stray, at, at, made
        ) using from_ns, to_ns;
    end if;
    execute format('alter table %s attach partition %s for values from (%s) to (%s)', parent, made, from_ns, to_ns);
    return made::regclass;
end
$$;
comment on function partitions.make is 'Make the partition of a day, with its rows that the DEFAULT partition took.';

create function partitions.maintain(now_ns bigint, ahead_days integer, keep_days integer default null)
returns table (done text, name text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    today constant date := '1970-01-01'::date + (now_ns / 86400000000000)::integer;
    kept record;
    wanted date;
begin
    -- One at a time; whoever else comes finds it done.
    if not pg_try_advisory_xact_lock(1213547332, 1146049875) then
        return;
    end if;
    for kept in
        select days.parent, days.partition from partitions.days where days.from_ns is null order by days.parent::text
    loop
        for wanted in execute format(
            'select day from (select generate_series(0, $2) + $1 as day union'
            ' select distinct ''1970-01-01''::date + (%I / 86400000000000)::integer from %s'
            ' where %I >= 946684800000000000) as wanted'
            ' where day <= $1 + $2 and (day >= $1 - $3) is not false order by day desc limit 64',
            partitions.time_of(kept.parent), kept.partition, partitions.time_of(kept.parent)
        ) using today, ahead_days, keep_days loop
            -- It is there; or it was detached, and what comes too late stays in DEFAULT.
            continue when to_regclass(partitions.name_of(kept.parent, wanted)) is not null;
            done := 'made';
            name := partitions.make(kept.parent, wanted)::text;
            return next;
        end loop;
    end loop;
    for kept in
        select days.parent, days.partition, days.partition::text as name from partitions.days
        where days.to_ns <= extract(epoch from today - keep_days)::bigint * 1000000000
        order by days.partition::text
    loop
        execute format('alter table %s detach partition %s', kept.parent, kept.partition);
        done := 'detached';
        name := kept.name;
        return next;
    end loop;
end
$$;
comment on function partitions.maintain is
    'Make days from today on and those of rows in DEFAULT; detach what ended keep_days before today, if that is given.';

create function partitions.in_default()
returns table (parent text, stray bigint, first_ns bigint, last_ns bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    kept record;
begin
    for kept in
        select days.parent, days.partition from partitions.days where days.from_ns is null order by days.parent::text
    loop
        execute format(
            'select count(*), min(%1$I), max(%1$I) from %2$s', partitions.time_of(kept.parent), kept.partition
        )
            into stray, first_ns, last_ns;
        if stray > 0 then
            parent := kept.parent::text;
            return next;
        end if;
    end loop;
end
$$;
comment on function partitions.in_default is
    'How many rows DEFAULT partitions hold, and from when to when; nothing where every row has a day.';

-- Tables move aside, and come back by day.

alter table market_data.underlying_ohlc set schema partitions;
alter table market_data.anomalies set schema partitions;
alter table moe_analysis.decisions set schema partitions;
alter table moe_analysis.expert_responses set schema partitions;
alter table moe_analysis.lineage set schema partitions;
alter table trading.accounts set schema partitions;
alter table trading.fills set schema partitions;

create table market_data.underlying_ohlc (
    like partitions.underlying_ohlc including comments,
    primary key (venue, symbol, interval_ns, open_ns)
) partition by range (open_ns);
create table market_data.anomalies (
    like partitions.anomalies including comments,
    primary key (at_ns, anomaly_id)
) partition by range (at_ns);
create table moe_analysis.decisions (
    like partitions.decisions including comments,
    primary key (close_ns, decision_id)
) partition by range (close_ns);
create table moe_analysis.expert_responses (
    like partitions.expert_responses including comments,
    primary key (close_ns, opinion_id)
) partition by range (close_ns);
create table moe_analysis.lineage (
    decision_id text not null,
    position bigint not null,
    kind text not null check (kind in ('opinion', 'context')),
    opinion_id text,
    weight double precision,
    context_kind text,
    context_key text,
    context_version bigint,
    close_ns bigint not null,
    strategy text not null,
    primary key (close_ns, decision_id, position)
) partition by range (close_ns);
create table trading.accounts (
    like partitions.accounts including comments,
    primary key (as_of_ns, account, epoch)
) partition by range (as_of_ns);
create table trading.fills (
    like partitions.fills including comments,
    primary key (matched_ns, fill_id)
) partition by range (matched_ns);

comment on table market_data.underlying_ohlc is
    'Bars of trades; prices and volume in units of the instrument, not in increments.';
comment on table market_data.anomalies is 'Everything out of the ordinary in market data, with what it rests on.';
comment on table moe_analysis.decisions is 'One decision per strategy, instrument and step.';
comment on table moe_analysis.expert_responses is
    'What an expert thought of one window; confidence and probabilities in [0, 1].';
comment on table moe_analysis.lineage is
    'What a decision rests on: opinions with the weights of their votes, then versions of contexts.';
comment on column moe_analysis.lineage.close_ns is 'With strategy, that of the decision.';
comment on table trading.accounts is 'An account after each of its changes.';
comment on table trading.fills is 'Every execution of an order.';

-- A symbol is on a few venues: without the venue, the newest of a symbol are found as fast.
create index anomalies_by_symbol on market_data.anomalies (symbol, at_ns, anomaly_id);
create index decisions_by_symbol on moe_analysis.decisions (symbol, close_ns, decision_id);
create index decisions_by_id on moe_analysis.decisions (decision_id);
create index expert_responses_by_symbol on moe_analysis.expert_responses (symbol, close_ns, opinion_id);
create index accounts_by_account on trading.accounts (account, as_of_ns, epoch);
create index fills_by_symbol on trading.fills (symbol, matched_ns, fill_id);
create index fills_by_account on trading.fills (account, matched_ns, fill_id);
create index fills_by_order on trading.fills (order_id);

create table partitions.underlying_ohlc_default partition of market_data.underlying_ohlc default;
create table partitions.anomalies_default partition of market_data.anomalies default;
create table partitions.decisions_default partition of moe_analysis.decisions default;
create table partitions.expert_responses_default partition of moe_analysis.expert_responses default;
create table partitions.lineage_default partition of moe_analysis.lineage default;
create table partitions.accounts_default partition of trading.accounts default;
create table partitions.fills_default partition of trading.fills default;

do $$
declare
    moved record;
    day date;
begin
    for moved in select days.parent, days.partition, format('partitions.%I', relname) as before
        from partitions.days join pg_class on oid = parent order by days.parent::text
    loop
        execute format('alter table %s enable row level security', moved.partition);
        if moved.parent = 'moe_analysis.lineage'::regclass then
            -- Both come in one transaction: there is no lineage without its decision.
            insert into moe_analysis.lineage
            select lineage.*, decisions.close_ns, decisions.strategy
            from partitions.lineage join moe_analysis.decisions using (decision_id);
        else
            execute format('insert into %s select * from %s', moved.parent, moved.before);
        end if;
        execute format('drop table %s', moved.before);
        -- Whatever has a day within reason; maintenance moves the rest.
        for day in execute format(
            'select distinct ''1970-01-01''::date + (%1$I / 86400000000000)::integer as day from %2$s'
            ' where %1$I between 946684800000000000 and 4102444800000000000 order by day desc limit 400',
            partitions.time_of(moved.parent), moved.partition
        ) loop
            perform partitions.make(moved.parent, day);
        end loop;
    end loop;
end
$$;

-- What instruments and services are.

create schema usage_stats;
create schema system_health;

create table market_data.instruments (
    venue text not null,
    symbol text not null,
    definition_version bigint not null,
    venue_symbol text not null,
    type text not null,
    base text not null,
    quote text not null,
    settle text not null,
    underlying text not null,
    shard bigint not null,
    price_increment numeric,
    size_increment numeric,
    multiplier numeric,
    valid_from_ns bigint not null,
    expiry_ns bigint,
    strike numeric,
    message bytea not null,
    primary key (venue, symbol, definition_version)
);
comment on table market_data.instruments is 'Every version of an instrument that was traded on or watched.';
comment on column market_data.instruments.multiplier is
    'What one contract is: base units for spot and linear instruments, units of the quote asset for inverse ones.';

create table trading.positions (
    account text not null,
    venue text not null,
    symbol text not null,
    quantity bigint not null,
    epoch bigint not null,
    as_of_ns bigint not null,
    primary key (account, venue, symbol)
);
comment on table trading.positions is
    'What each account holds after its last change, in size increments, negative when short; 0 once it is closed.';

create table usage_stats.orchestrator_stats (
    service text not null,
    started_ns bigint not null,
    at_ns bigint not null,
    counts jsonb not null,
    message bytea not null,
    primary key (service, started_ns)
);
comment on table usage_stats.orchestrator_stats is
    'What each incarnation of the orchestrator has counted since it started, by its last report.';

create table system_health.uptime_logs (
    service text not null,
    at_ns bigint not null,
    running boolean not null,
    message bytea not null,
    primary key (service, at_ns, running)
);
comment on table system_health.uptime_logs is 'When services began to listen and when they stopped, in market time.';

create table system_health.alerts (
    alert_id text not null,
    at_ns bigint not null,
    source text not null,
    kind text not null,
    severity text not null check (severity in ('warning', 'critical')),
    about text not null,
    detail text not null,
    primary key (alert_id)
);
create index alerts_by_time on system_health.alerts (at_ns, alert_id);
comment on table system_health.alerts is
    'What somebody should look at: anomalies far out, feeds that fail, rows that have no day.';
comment on column system_health.alerts.about is 'An instrument as venue.symbol, or a table.';

-- Roles, and who is asking.

do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            ('anon', 'nologin noinherit'),
            ('authenticated', 'nologin noinherit'),
            ('service_role', 'nologin noinherit bypassrls'),
            ('authenticator', 'nologin noinherit')
        ) as roles (name, options)
    loop
        continue when exists (select from pg_roles where rolname = wanted.name);
        begin
            execute format('create role %I %s', wanted.name, wanted.options);
        exception when duplicate_object or unique_violation then
            null; -- Roles belong to the server: another database of it was migrated at the same moment.
        end;
    end loop;
    for wanted in select unnest(array['anon', 'authenticated', 'service_role']) as name loop
        if not pg_has_role('authenticator', wanted.name, 'member') then
            execute format('grant %I to authenticator', wanted.name);
        end if;
    end loop;
end
$$;

create schema if not exists auth;
do $$
begin
    if to_regprocedure('auth.jwt()') is null then
        create function auth.jwt() returns jsonb language sql stable
        return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
        comment on function auth.jwt is 'The claims of whoever asks, set for the transaction; null where there are none.';
    end if;
    if to_regprocedure('auth.uid()') is null then
        create function auth.uid() returns uuid language sql stable
        return nullif(auth.jwt() ->> 'sub', '')::uuid;
        comment on function auth.uid is 'The user that the claims name.';
    end if;
    if not has_schema_privilege('authenticated', 'auth', 'usage') then
        grant usage on schema auth to anon, authenticated, service_role;
    end if;
end
$$;

-- Desks.

create schema desks;
create table desks.account_owners (
    user_id uuid not null,
    account text not null,
    primary key (user_id, account)
);
comment on table desks.account_owners is 'Which desk, by its user, sees which account.';
create table desks.strategy_entitlements (
    user_id uuid not null,
    strategy text not null,
    primary key (user_id, strategy)
);
comment on table desks.strategy_entitlements is 'Which desk, by its user, sees the decisions of which strategy.';

create view trading.daily_pnl with (security_invoker = true) as
select
    account,
    as_of_ns / 86400000000000 * 86400000000000 as day_ns,
    (array_agg(equity order by as_of_ns, epoch))[1] as first_equity,
    (array_agg(equity order by as_of_ns desc, epoch desc))[1] as last_equity,
    (array_agg(equity order by as_of_ns desc, epoch desc))[1] - (array_agg(equity order by as_of_ns, epoch))[1] as pnl,
    max(fees) - min(fees) as fees
from trading.accounts
group by account, as_of_ns / 86400000000000 * 86400000000000;
comment on view trading.daily_pnl is
    'What each account made from its first to its last change of a day, UTC, fees taken off, and what these were.';

do $$
declare
    ours constant text[] := '{market_data, moe_analysis, trading, usage_stats, system_health, desks}';
    name text;
    secured record;
begin
    foreach name in array ours loop
        execute format('revoke all on schema %I from public', name);
        execute format('grant usage on schema %I to service_role', name);
        execute format('grant select, insert, update, delete on all tables in schema %I to service_role', name);
        execute format(
            'alter default privileges in schema %I grant select, insert, update, delete on tables to service_role', name
        );
    end loop;
    for secured in select oid::regclass as of from pg_class
        where relnamespace = any (ours::regnamespace[]) and relkind in ('r', 'p')
    loop
        execute format('alter table %s enable row level security, force row level security', secured.of);
    end loop;
end
$$;
revoke all on schema partitions from public;
grant usage on schema partitions to service_role;
grant select on partitions.days to service_role;
revoke all on all functions in schema partitions from public;
grant execute on function partitions.maintain, partitions.in_default to service_role;

grant usage on schema market_data, moe_analysis, trading, desks to authenticated;
grant select on
    desks.account_owners,
    desks.strategy_entitlements,
    market_data.anomalies,
    market_data.feed_changes,
    market_data.instruments,
    market_data.reliability,
    market_data.underlying_ohlc,
    moe_analysis.contexts,
    moe_analysis.decisions,
    moe_analysis.expert_responses,
    moe_analysis.lineage,
    trading.accounts,
    trading.daily_pnl,
    trading.fills,
    trading.orders,
    trading.positions
to authenticated;

-- Each `(select ...)` and `array(select ...)` is answered once for a query, not for each row.

create policy own on desks.account_owners for select to authenticated using (user_id = (select auth.uid()));
create policy own on desks.strategy_entitlements for select to authenticated using (user_id = (select auth.uid()));

create policy own_accounts on trading.accounts for select to authenticated
using (account = any (array(
    select owned.account from desks.account_owners as owned where owned.user_id = (select auth.uid())
)));
create policy own_accounts on trading.fills for select to authenticated
using (account = any (array(
    select owned.account from desks.account_owners as owned where owned.user_id = (select auth.uid())
)));
create policy own_accounts on trading.orders for select to authenticated
using (account = any (array(
    select owned.account from desks.account_owners as owned where owned.user_id = (select auth.uid())
)));
create policy own_accounts on trading.positions for select to authenticated
using (account = any (array(
    select owned.account from desks.account_owners as owned where owned.user_id = (select auth.uid())
)));

create policy entitled on moe_analysis.decisions for select to authenticated
using (strategy = any (array(
    select entitled.strategy from desks.strategy_entitlements as entitled where entitled.user_id = (select auth.uid())
)));
create policy entitled on moe_analysis.lineage for select to authenticated
using (strategy = any (array(
    select entitled.strategy from desks.strategy_entitlements as entitled where entitled.user_id = (select auth.uid())
)));

-- Strategies share experts and contexts: who is entitled to one strategy sees what any may rest on. A kind of context is
-- shown only when it is named here, for some tell of accounts.
create policy entitled on moe_analysis.expert_responses for select to authenticated
using ((select exists (select from desks.strategy_entitlements where user_id = (select auth.uid()))));
create policy entitled on moe_analysis.contexts for select to authenticated
using (
    kind in ('regime', 'mood')
    and (select exists (select from desks.strategy_entitlements where user_id = (select auth.uid())))
);

create policy signed_in on market_data.anomalies for select to authenticated
using ((select auth.uid()) is not null);
create policy signed_in on market_data.feed_changes for select to authenticated
using ((select auth.uid()) is not null);
create policy signed_in on market_data.instruments for select to authenticated
using ((select auth.uid()) is not null);
create policy signed_in on market_data.reliability for select to authenticated
using ((select auth.uid()) is not null);
create policy signed_in on market_data.underlying_ohlc for select to authenticated
using ((select auth.uid()) is not null);
